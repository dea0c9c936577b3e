//! Reading kernel state by name.

use std::ffi::CString;
use std::io;

use crate::collect::strange;

/// Values are read up to this length.
const LENGTH_MAX: usize = 4 << 20;

/// The bytes of a value.
pub(super) fn bytes(name: &str) -> io::Result<Vec<u8>> {
    let at_name = |error: io::Error| io::Error::new(error.kind(), format!("sysctl {name}: {error}"));
    let text = CString::new(name).map_err(|_| strange("a name with a NUL"))?;
    let mut length = 0;
    // SAFETY: the name ends with NUL; without a buffer the call only stores the length.
    let known = unsafe {
        libc::sysctlbyname(text.as_ptr(), std::ptr::null_mut(), &raw mut length, std::ptr::null(), 0)
    };
    if known != 0 {
        return Err(at_name(io::Error::last_os_error()));
    }
    // It may have grown by the time of the second call.
    let mut value = vec![0u8; (length + length / 8).min(LENGTH_MAX)];
    let mut length = value.len();
    // SAFETY: the buffer has `length` bytes.
    let read = unsafe {
        libc::sysctlbyname(text.as_ptr(), value.as_mut_ptr().cast(), &raw mut length, std::ptr::null(), 0)
    };
    if read != 0 {
        return Err(at_name(io::Error::last_os_error()));
    }
    value.truncate(length);
    Ok(value)
}

/// A number of 4 or 8 bytes.
pub(super) fn number(name: &str) -> io::Result<u64> {
    let value = bytes(name)?;
    if let Ok(value) = <[u8; 8]>::try_from(&*value) {
        return Ok(u64::from_ne_bytes(value));
    }
    match <[u8; 4]>::try_from(&*value) {
        Ok(value) => Ok(u32::from_ne_bytes(value).into()),
        Err(_) => Err(strange(format!("sysctl {name}: {} bytes where a number should be", value.len()))),
    }
}

/// A list of numbers of 8 bytes.
pub(super) fn numbers(name: &str) -> io::Result<Vec<u64>> {
    let value = bytes(name)?;
    let chunks = value.chunks_exact(8);
    Ok(chunks.map(|chunk| u64::from_ne_bytes(chunk.try_into().expect("eight bytes"))).collect())
}
