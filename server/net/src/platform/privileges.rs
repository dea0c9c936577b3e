//! From root to an ordinary user, for good.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

use super::check;

/// Longest record of a user or a group that is read, in bytes: a group lists its members.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// Becomes `user`, with `group` (by default the user's own) and the user's supplementary groups, and makes sure that
/// there is no way back. Does nothing when the process is that user and group already. All threads change.
///
/// # Errors
/// When the user or group is unknown, the user is root, or the process may not change its user (it is not root).
/// The process may then be half way: it must end.
pub fn drop_privileges(user: &str, group: Option<&str>) -> io::Result<()> {
    let Some(Wanted { name, uid, gid }) = wanted(user, group)? else { return Ok(()) };
    // Groups first: afterwards there is no right to change them.
    // SAFETY: the name ends with NUL and lives through the call.
    check(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
    // SAFETY: setgid and setuid take numbers.
    check(unsafe { libc::setgid(gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setuid(uid) })?;
    // SAFETY: as above.
    let back = unsafe { libc::setuid(0) } == 0;
    if back || ids()? != (Ids { users: [uid; 3], groups: [gid; 3] }) {
        let message = format!("the system let this process keep privileges after it became {user:?}");
        return Err(refused(io::ErrorKind::Other, message));
    }
    Ok(())
}

/// Whether [`drop_privileges`] can be expected to succeed. Changes nothing.
///
/// # Errors
/// As there.
pub fn can_drop_privileges(user: &str, group: Option<&str>) -> io::Result<()> {
    wanted(user, group).map(|_| ())
}

/// What the process is to become.
struct Wanted {
    name: CString,
    uid: libc::uid_t,
    gid: libc::gid_t,
}

/// Looks user and group up; `None` when the process is both already.
fn wanted(user: &str, group: Option<&str>) -> io::Result<Option<Wanted>> {
    let name = c_string(user)?;
    let Some(account) = account(&name)? else {
        return Err(refused(io::ErrorKind::NotFound, format!("there is no user {user:?} on this machine")));
    };
    let gid = match group {
        None => account.gid,
        Some(group) => group_id(&c_string(group)?)?.ok_or_else(|| {
            refused(io::ErrorKind::NotFound, format!("there is no group {group:?} on this machine"))
        })?,
    };
    if account.uid == 0 {
        let message = format!("the user {user:?} is root: name a user without privileges");
        return Err(refused(io::ErrorKind::InvalidInput, message));
    }
    if ids()? == (Ids { users: [account.uid; 3], groups: [gid; 3] }) {
        return Ok(None);
    }
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        let message = format!("only root can become the user {user:?}: start as root, or as that user");
        return Err(refused(io::ErrorKind::PermissionDenied, message));
    }
    Ok(Some(Wanted { name, uid: account.uid, gid }))
}

fn refused(kind: io::ErrorKind, message: String) -> io::Error {
    io::Error::new(kind, message)
}

fn c_string(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| {
        refused(io::ErrorKind::InvalidInput, format!("{name:?} cannot be the name of a user or a group"))
    })
}

/// Real, effective and saved.
#[derive(Eq, PartialEq, Debug)]
struct Ids {
    users: [libc::uid_t; 3],
    groups: [libc::gid_t; 3],
}

fn ids() -> io::Result<Ids> {
    let [mut user, mut effective_user, mut saved_user] = [0; 3];
    let [mut group, mut effective_group, mut saved_group] = [0; 3];
    // SAFETY: the kernel writes three numbers, which live through the call.
    check(unsafe { libc::getresuid(&raw mut user, &raw mut effective_user, &raw mut saved_user) })?;
    // SAFETY: as above.
    check(unsafe { libc::getresgid(&raw mut group, &raw mut effective_group, &raw mut saved_group) })?;
    Ok(Ids { users: [user, effective_user, saved_user], groups: [group, effective_group, saved_group] })
}

struct Account {
    uid: libc::uid_t,
    gid: libc::gid_t,
}

fn account(name: &CStr) -> io::Result<Option<Account>> {
    look_up(|buffer| {
        let mut record = MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: the name ends with NUL; the record and the buffer of the stated length live through the call, and
        // `found` then is null or points to the record, filled in.
        unsafe {
            let result = libc::getpwnam_r(
                name.as_ptr(),
                record.as_mut_ptr(),
                buffer.as_mut_ptr().cast::<libc::c_char>(),
                buffer.len(),
                &raw mut found,
            );
            (result, found.as_ref().map(|found| Account { uid: found.pw_uid, gid: found.pw_gid }))
        }
    })
}

fn group_id(name: &CStr) -> io::Result<Option<libc::gid_t>> {
    look_up(|buffer| {
        let mut record = MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `account`.
        unsafe {
            let result = libc::getgrnam_r(
                name.as_ptr(),
                record.as_mut_ptr(),
                buffer.as_mut_ptr().cast::<libc::c_char>(),
                buffer.len(),
                &raw mut found,
            );
            (result, found.as_ref().map(|found| found.gr_gid))
        }
    })
}

/// Asks with a larger and larger buffer, as long as that is what is missing.
fn look_up<T>(mut ask: impl FnMut(&mut [u8]) -> (libc::c_int, Option<T>)) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 1024];
    loop {
        match ask(&mut buffer) {
            (_, Some(found)) => return Ok(Some(found)),
            (libc::ERANGE, None) if buffer.len() < RECORD_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            (libc::EINTR, None) => {}
            // What systems say instead of "not found" (getpwnam(3)).
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, None) => return Ok(None),
            (errno, None) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolated;

    fn is_root() -> bool {
        // SAFETY: geteuid has no preconditions.
        unsafe { libc::geteuid() == 0 }
    }

    #[test]
    fn root_becomes_an_ordinary_user_and_cannot_go_back() {
        isolated::run(
            "platform::privileges::tests::root_becomes_an_ordinary_user_and_cannot_go_back",
            || {
                let may = is_root();
                match drop_privileges("nobody", None) {
                    Err(error) if !may => {
                        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                        return;
                    }
                    result => result.unwrap(),
                }
                let expected = account(c"nobody").unwrap().unwrap();
                assert_eq!(ids().unwrap().users, [expected.uid; 3]);
                assert_eq!(ids().unwrap().groups, [expected.gid; 3]);
                std::fs::File::open("/etc/shadow").unwrap_err();
                // Again is nothing; another user is refused.
                drop_privileges("nobody", None).unwrap();
                let error = drop_privileges("daemon", None).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            },
        );
    }

    #[test]
    fn a_group_can_be_given_beside_the_user() {
        isolated::run("platform::privileges::tests::a_group_can_be_given_beside_the_user", || {
            let wanted = group_id(c"daemon").unwrap().unwrap();
            let result = drop_privileges("nobody", Some("daemon"));
            if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                return;
            }
            result.unwrap();
            assert_eq!(ids().unwrap().groups, [wanted; 3]);
        });
    }

    #[test]
    fn what_cannot_be_done_is_said_before_anything_changes() {
        let before = ids().unwrap();
        for (user, group, said) in [
            ("no-such-user-here", None, "no user \"no-such-user-here\""),
            ("nobody", Some("no-such-group-here"), "no group \"no-such-group-here\""),
            ("root", None, "is root"),
            ("a\0b", None, "cannot be the name"),
        ] {
            let error = drop_privileges(user, group).unwrap_err();
            assert!(error.to_string().contains(said), "{user}: {error}");
            assert_eq!(can_drop_privileges(user, group).unwrap_err().to_string(), error.to_string());
        }
        assert_eq!(ids().unwrap(), before);
    }
}
