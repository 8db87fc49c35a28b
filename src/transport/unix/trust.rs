//! Decides whether the user at the other end of the pipe may be the agent.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::transport::AgentTrust;

/// The system's default overflow user.
const USUAL_OVERFLOW_UID: u32 = 65534;
/// The number of user ids. -1 is not a user id.
const ALL_USERS: u64 = u32::MAX as u64;

/// Checks the user that the kernel reports for the other end.
///
/// # Errors
///
/// [`Error::UntrustedAgent`] if `trust` does not include that user.
pub(super) fn check(trust: &AgentTrust, peer: io::Result<u32>) -> Result<()> {
    let own = nix::unistd::geteuid().as_raw();
    let trusted = match trust {
        AgentTrust::Any => return Ok(()),
        AgentTrust::OwnerOrRoot => [0, own],
        AgentTrust::Uid(uid) => [*uid, *uid],
    };
    let uid = peer.map_err(|e| {
        untrusted(format!("the system does not report which user it runs as ({e}); {NAME_IT}"))
    })?;
    if is_any_unmapped_user(uid) {
        return Err(untrusted(format!(
            "it appears as user {uid}, and in this user namespace so does every user that the \
             namespace does not map (see /proc/self/uid_map), so any user of the host may be \
             behind it; map the agent's user into the namespace, or, if no other user can listen \
             at the pipe's path, use AgentTrust::Any"
        )));
    }
    if trusted.contains(&uid) {
        return Ok(());
    }
    Err(untrusted(match trust {
        AgentTrust::Uid(wanted) => {
            format!("it runs as user {uid}, and only user {wanted} is trusted; {NAME_IT}")
        }
        _ => format!(
            "it runs as user {uid}, which is neither root nor the plugin's own, {own}; {NAME_IT}"
        ),
    }))
}

const NAME_IT: &str = "if that is your agent, name it with Runner::trusted_agent";

fn untrusted(why: String) -> Error {
    Error::UntrustedAgent(why)
}

/// Whether `uid` is the overflow user in a user namespace that does not map all users. There
/// the kernel reports the overflow user in place of every user that is not mapped.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_any_unmapped_user(uid: u32) -> bool {
    let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid");
    let overflow = overflow.ok().and_then(|text| text.trim().parse().ok());
    uid == overflow.unwrap_or(USUAL_OVERFLOW_UID) && !all_users_are_mapped()
}

/// Other systems have no user namespaces.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_any_unmapped_user(_: u32) -> bool {
    false
}

fn all_users_are_mapped() -> bool {
    match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => maps_all_users(&map),
        // A kernel without user namespaces maps all users. Without /proc the answer is unknown: return false,
        // which trusts fewer users.
        Err(e) => e.kind() == io::ErrorKind::NotFound && Path::new("/proc/self/status").exists(),
    }
}

/// Whether a `uid_map` covers all user ids. Its lines are ranges that do not overlap: the first
/// id inside, the first id outside, the number of ids.
fn maps_all_users(map: &str) -> bool {
    let count = |line: &str| -> u64 {
        let count = line.split_whitespace().nth(2).and_then(|count| count.parse().ok());
        count.unwrap_or(0)
    };
    map.lines().map(count).sum::<u64>() >= ALL_USERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_map_covers_all_users_only_if_its_ranges_do() {
        assert!(maps_all_users("         0          0 4294967295\n"));
        assert!(maps_all_users("0 0 65534\n65534 65534 1\n65535 65535 4294901760\n"));
        assert!(!maps_all_users(""));
        assert!(!maps_all_users("         0       1000          1\n"));
        assert!(!maps_all_users("0 1000 1\n1 100000 65536\n"));
        assert!(!maps_all_users("0 0 4294967294\n"));
        assert!(!maps_all_users("0 0 many\n"));
    }
}
