//! The owner of a pipe.

use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::{io, ptr};

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, FALSE, LocalFree};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_KERNEL_OBJECT};
use windows_sys::Win32::Security::{
    EqualSid, GetTokenInformation, IsWellKnownSid, OWNER_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser, WinBuiltinAdministratorsSid,
    WinLocalSystemSid,
};
#[cfg(feature = "test-util")]
use windows_sys::Win32::Security::{
    InitializeSecurityDescriptor, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR,
    SetSecurityDescriptorOwner,
};
#[cfg(feature = "test-util")]
use windows_sys::Win32::System::SystemServices::SECURITY_DESCRIPTOR_REVISION;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::says_closed;

/// Why the check of a pipe failed.
pub(super) enum Unchecked {
    /// The other end is gone, so the system cannot tell its owner.
    Closed,
    Untrusted(String),
}

/// Fails unless the pipe belongs to SYSTEM, the Administrators or the plugin's own user.
pub(super) fn check(pipe: BorrowedHandle<'_>) -> Result<(), Unchecked> {
    let untrusted = |why: String| Unchecked::Untrusted(why);
    let owner = Owner::of(pipe).map_err(|e| match e {
        e if says_closed(&e) => Unchecked::Closed,
        e => untrusted(format!("the system does not report the pipe's owner ({e})")),
    })?;
    let own =
        own_user().map_err(|e| untrusted(format!("the plugin's own user is not known ({e})")))?;
    if owner.is_well_known(WinLocalSystemSid)
        || owner.is_well_known(WinBuiltinAdministratorsSid)
        || owner.is(&own)
    {
        return Ok(());
    }
    let whose = "neither to SYSTEM nor to the Administrators nor to the plugin's own user";
    Err(untrusted(format!("the pipe belongs {whose}")))
}

/// A security identifier inside the descriptor that holds it.
struct Owner {
    descriptor: PSECURITY_DESCRIPTOR,
    sid: PSID,
}

impl Owner {
    fn of(pipe: BorrowedHandle<'_>) -> io::Result<Self> {
        let mut owner = Self { descriptor: ptr::null_mut(), sid: ptr::null_mut() };
        // SAFETY: the handle is open, the two out-pointers are valid, and pointers for parts that the call
        // does not request may be null.
        let status = unsafe {
            GetSecurityInfo(
                pipe.as_raw_handle(),
                SE_KERNEL_OBJECT,
                OWNER_SECURITY_INFORMATION,
                &raw mut owner.sid,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut owner.descriptor,
            )
        };
        if status != ERROR_SUCCESS {
            return Err(io::Error::from_raw_os_error(status.cast_signed()));
        }
        if owner.sid.is_null() {
            return Err(io::Error::other("it has no owner"));
        }
        Ok(owner)
    }

    fn is_well_known(&self, kind: i32) -> bool {
        // SAFETY: `of` has checked the identifier, which lives as long as the descriptor.
        unsafe { IsWellKnownSid(self.sid, kind) != FALSE }
    }

    fn is(&self, user: &User) -> bool {
        // SAFETY: both identifiers are valid as long as `self` and `user`.
        unsafe { EqualSid(self.sid, user.sid()) != FALSE }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the descriptor is from GetSecurityInfo, whose caller must free it with LocalFree. Null is
        // allowed.
        unsafe { LocalFree(self.descriptor) };
    }
}

/// A security descriptor with only an owner: the user that runs this process.
///
/// Windows gives a pipe this owner by default. Wine 8 gives it none.
#[cfg(feature = "test-util")]
pub(super) struct OwnedByUser {
    /// Points into `_user`.
    descriptor: Box<SECURITY_DESCRIPTOR>,
    _user: User,
}

#[cfg(feature = "test-util")]
impl OwnedByUser {
    pub(super) fn new() -> io::Result<Self> {
        let user = own_user()?;
        let mut descriptor = Box::new(SECURITY_DESCRIPTOR::default());
        let at: PSECURITY_DESCRIPTOR = (&raw mut *descriptor).cast();
        // SAFETY: `at` is valid for a descriptor. The identifier is valid as long as `user`, and its memory
        // does not move when `user` is moved.
        let success = unsafe {
            InitializeSecurityDescriptor(at, SECURITY_DESCRIPTOR_REVISION) != FALSE
                && SetSecurityDescriptorOwner(at, user.sid(), FALSE) != FALSE
        };
        if !success {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, _user: user })
    }

    /// Attributes for a new object. They must not outlive `self`.
    pub(super) fn attributes(&mut self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: (&raw mut *self.descriptor).cast(),
            bInheritHandle: FALSE,
        }
    }
}

/// A `TOKEN_USER` and the identifier that it points to, in memory aligned for it.
struct User(Vec<u64>);

impl User {
    fn sid(&self) -> PSID {
        // SAFETY: `own_user` had the system write a TOKEN_USER there.
        unsafe { (*self.0.as_ptr().cast::<TOKEN_USER>()).User.Sid }
    }
}

fn own_user() -> io::Result<User> {
    let mut token = ptr::null_mut();
    // SAFETY: the pseudo-handle of the process is always valid, and so is the out-pointer.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == FALSE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened, and no other code has it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    // Longer than the structure and the largest identifier together.
    let mut user = vec![0_u64; 32];
    let size = size_of_val(&user[..]) as u32;
    let mut filled = 0;
    // SAFETY: the buffer is valid for `size` bytes and aligned for a TOKEN_USER.
    let success = unsafe {
        GetTokenInformation(
            token.as_raw_handle(),
            TokenUser,
            user.as_mut_ptr().cast::<c_void>(),
            size,
            &raw mut filled,
        )
    };
    if success == FALSE {
        return Err(io::Error::last_os_error());
    }
    Ok(User(user))
}
