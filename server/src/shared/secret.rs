//! Files with secrets that are shared with other services.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Bytes of such a file at most.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// What is in a file, without white space at its ends. `key`: the configuration's name for it. Looks at the file that is open,
/// which no one can replace after the look.
///
/// # Errors
/// It cannot be read, others than its owner may, or it is too long; the text says what to do.
pub fn read(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |text: &dyn std::fmt::Display| format!("{key}: {}: {text}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mode = file.metadata().map_err(|error| failed(&error))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(failed(&format!(
            "others than its owner may use it (mode {mode:04o}); make it a secret with: chmod 600 {}",
            path.display()
        )));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(&"it is too long for a secret"));
    }
    Ok(Zeroizing::new(bytes.trim_ascii().to_vec()))
}
