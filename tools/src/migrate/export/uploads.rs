//! Files that an account has uploaded, by what is known of them: an element of our own, because the format of XEP-0227 has no place
//! for them. The files themselves are in the data directory and its backups; an import leaves this out.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::{Directory, DirectoryError};

use super::xml::escaped;

/// The namespace of the element.
const UPLOADS: &str = "whimbrel#uploads";

/// Files that are looked up at once.
const PAGE: usize = 500;

/// Writes a list of the files of an account. Returns how many there are.
pub(in crate::migrate) fn write(
    directory: &Directory,
    account: ActorId,
    out: &mut String,
) -> Result<u64, DirectoryError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let (files, next) = directory.uploads_of(account, after.as_ref(), PAGE)?;
        for file in &files {
            if count == 0 {
                out.push_str(&format!("<uploads xmlns='{UPLOADS}'>"));
            }
            count += 1;
            let (name, media) = (escaped(&file.name), escaped(&file.media));
            out.push_str(&format!(
                "<upload id='{}' name='{name}' type='{media}' bytes='{}' came-ms='{}' crc32c='{:08x}'/>",
                file.id, file.bytes, file.time_ms, file.checksum
            ));
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    if count > 0 {
        out.push_str("</uploads>");
    }
    Ok(count)
}
