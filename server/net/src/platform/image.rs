//! Becoming another program in the same process: what survives, and the step itself.
//!
//! Descriptors survive an exec unless they are marked close-on-exec, which everything this server opens is from the
//! start; the memory file is how memory survives. Everything that [`Program::exec`] needs is made beforehand, so that
//! it may be called from a signal handler.

use std::ffi::{CString, OsStr, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::{check, system};

/// An empty file in memory, without a name, that lives as long as a descriptor of it.
///
/// # Errors
/// The system's reason.
pub fn memory_file() -> io::Result<File> {
    system::memory_file().map(File::from)
}

/// Whether a descriptor stays open when the process becomes another program.
///
/// # Errors
/// There is no such descriptor.
pub fn keep_open(fd: RawFd, keep: bool) -> io::Result<()> {
    let flags = if keep { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: takes numbers; a number that is no descriptor is an error. FD_CLOEXEC is the only flag there is.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags) })
}

/// Whether a number is an open descriptor that an exec does not close: in a program that marks all it opens, one that
/// came along with the last exec.
#[must_use]
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: takes numbers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// A second descriptor of the same file, which child processes inherit.
///
/// # Errors
/// The process has no room for one more.
pub fn inheritable(file: &File) -> io::Result<OwnedFd> {
    let copy = file.try_clone()?;
    keep_open(copy.as_raw_fd(), true)?;
    Ok(copy.into())
}

/// Nanoseconds of the clock that never goes back and is the same for all programs until the machine restarts.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the struct, which lives through the call. It cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The signals that end or reload the server. While they are held back they wait, also through an exec.
const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Holds SIGTERM, SIGINT and SIGHUP back from this thread and from those that it starts; or no longer.
///
/// # Errors
/// None that a sound system gives.
pub fn hold_signals(hold: bool) -> io::Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let how = if hold { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: sigemptyset makes the set before anything reads it; all calls work on memory of ours.
    let result = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// How a program is named.
enum Place {
    Path(CString),
    /// The program's file, open.
    File(File),
}

/// A program with its arguments and the environment of this process, ready to take its place.
pub struct Program {
    place: Place,
    /// The arrays below point into these. They are never changed.
    _texts: Vec<CString>,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
}

// SAFETY: the pointers are to texts that it owns and nobody changes.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} has a NUL in it", text.display()))
    })
}

impl Program {
    /// The program of a path.
    ///
    /// # Errors
    /// A text with a NUL in it.
    pub fn at<'a>(path: &OsStr, arguments: impl Iterator<Item = &'a OsStr>) -> io::Result<Program> {
        Program::new(Place::Path(c_string(path)?), arguments)
    }

    /// The program whose file is open, however it may be named by now.
    ///
    /// # Errors
    /// A text with a NUL in it.
    pub fn of_file<'a>(file: File, arguments: impl Iterator<Item = &'a OsStr>) -> io::Result<Program> {
        Program::new(Place::File(file), arguments)
    }

    fn new<'a>(place: Place, arguments: impl Iterator<Item = &'a OsStr>) -> io::Result<Program> {
        let mut texts = Vec::new();
        let mut list = |text: CString| {
            let pointer = text.as_ptr();
            texts.push(text);
            pointer
        };
        let mut pointers = Vec::new();
        for argument in arguments {
            pointers.push(list(c_string(argument)?));
        }
        pointers.push(std::ptr::null());
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let mut text = name;
            text.push("=");
            text.push(value);
            environment.push(list(c_string(&text)?));
        }
        environment.push(std::ptr::null());
        Ok(Program { place, _texts: texts, arguments: pointers, environment })
    }

    /// Becomes the program: returns only when that fails. All other threads end; descriptors that are not marked
    /// close-on-exec stay open; signals that are held back stay so. Safe in a signal handler.
    pub fn exec(&self) -> io::Error {
        let (arguments, environment) = (self.arguments.as_ptr(), self.environment.as_ptr());
        // SAFETY: both arrays end with a null pointer, and all others in them are to texts that end with NUL and live
        // as long as `self`; so does the path.
        unsafe {
            match &self.place {
                Place::Path(path) => libc::execve(path.as_ptr(), arguments, environment),
                Place::File(file) => libc::fexecve(file.as_raw_fd(), arguments, environment),
            }
        };
        io::Error::last_os_error()
    }
}

/// Calls the main thread by the program's name: a program that is started by its open file is called after the
/// descriptor. Does nothing where the system does not do that.
pub fn name_process(name: &std::ffi::CStr) {
    system::name_process(name);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_memory_file_keeps_what_is_written_and_does_not_survive_an_exec_unless_told() {
        let mut file = memory_file().unwrap();
        file.write_all(b"state").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "state");
        let flags = |fd: RawFd| {
            // SAFETY: takes numbers.
            unsafe { libc::fcntl(fd, libc::F_GETFD) }
        };
        assert_eq!(flags(file.as_raw_fd()), libc::FD_CLOEXEC);
        let copy = inheritable(&file).unwrap();
        assert!(is_inherited(copy.as_raw_fd()) && !is_inherited(file.as_raw_fd()) && !is_inherited(-1));
        keep_open(copy.as_raw_fd(), false).unwrap();
        assert_eq!(flags(copy.as_raw_fd()), libc::FD_CLOEXEC);
    }

    #[test]
    fn a_program_that_is_not_there_says_so_and_everything_goes_on() {
        let program = Program::at(OsStr::new("/no/such/program"), std::iter::once(OsStr::new("x"))).unwrap();
        assert_eq!(program.exec().kind(), io::ErrorKind::NotFound);
        assert!(Program::at(OsStr::new("a\0b"), std::iter::empty()).is_err());
    }
}
