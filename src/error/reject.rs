//! The agent's reasons for a refusal.

use std::fmt;

use super::Printable;

macro_rules! reject_reasons {
    ($($(#[$doc:meta])* $variant:ident = $wire:literal, $remedy:literal;)*) => {
        /// Why the agent refused a plugin.
        ///
        /// `Display` is the text on the wire. It escapes control characters, which could control a
        /// terminal.
        ///
        /// # Examples
        ///
        /// ```
        /// use wedr_plugin_sdk::RejectReason;
        /// assert_eq!(RejectReason::HashMismatch.to_string(), "hash_mismatch");
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RejectReason {
            $($(#[$doc])* $variant,)*
            /// A reason that this version of the SDK does not know, as the agent wrote it. Before you
            /// print it to a terminal, escape it, or print the reason's `Display`.
            Other(String),
        }

        impl RejectReason {
            /// The texts on the wire of all reasons that this version knows.
            #[cfg(test)]
            pub(super) const KNOWN: &[&str] = &[$($wire),*];

            pub(crate) fn from_wire(text: String) -> Self {
                match text.as_str() {
                    $($wire => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }

            pub(super) fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $wire,)*
                    Self::Other(text) => text,
                }
            }

            /// See [`Error::is_permanent`](crate::Error::is_permanent).
            pub(super) fn is_permanent(&self) -> bool {
                matches!(self, Self::BadHandshake | Self::SchemaMismatch | Self::SignatureInvalid)
            }

            pub(super) fn remedy(&self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)*
                    Self::Other(_) => {
                        "this version of the SDK does not know this reason; look into the agent's log"
                    }
                }
            }
        }
    };
}

reject_reasons! {
    /// The agent could not read hello.
    BadHandshake = "bad_handshake",
        "it could not read hello; use matching versions of SDK and agent";
    /// The agent uses another schema version.
    SchemaMismatch = "schema_mismatch",
        "it uses another schema version than 1; rebuild the plugin with the SDK release for this \
         agent";
    /// No plugin is enrolled under this id.
    UnknownPluginId = "unknown_plugin_id",
        "no plugin is enrolled under this id; as administrator, run `wedr-plugin enroll <BINARY> \
         --name <NAME> --vendor <VENDOR> (--signer \"<DN>\" | --allow-unsigned)`, or correct \
         WEDR_PLUGIN_ID; right after `enroll` wait 5 s";
    /// The plugin runs from another path than the enrolled path.
    PathMismatch = "path_mismatch",
        "the binary runs from another path than the enrolled path; start it from there, or run \
         `wedr-plugin update <id> <BINARY>` (add a flag that flips auto-launch if it says \
         \"already up-to-date\"); the agent sees the change within 5 s";
    /// The binary changed since it was enrolled.
    HashMismatch = "hash_mismatch",
        "the binary changed since it was enrolled, or the agent cannot read it; run `wedr-plugin \
         update <id>`; the agent sees the change within 5 s";
    /// The binary's signature is missing or not valid.
    SignatureInvalid = "signature_invalid",
        "the binary's signature is missing or not valid; sign the binary, then run `wedr-plugin \
         update <id>`";
    /// The plugin's enrolment was revoked.
    Revoked = "revoked",
        "its enrolment was revoked; if it may run again, run `wedr-plugin unrevoke <id>`; the agent \
         sees the change within 5 s";
    /// The agent has its maximum number of sessions.
    TooManySessions = "too_many_sessions",
        "the agent has its maximum number of plugin sessions; stop another plugin, or start again \
         later";
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.as_str()).fmt(f)
    }
}
