//! Which process listens on a port.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The process that listens on `port`, if there is one that we may look at.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        folder.flatten().any(|entry| {
            fs::metadata(entry.path())
                .is_ok_and(|file| file.file_type().is_socket() && inodes.contains(&file.ino()))
        })
    })
}

/// Inodes of the sockets that listen on `port`, from the text of /proc/net/tcp.
fn listening_inodes(text: &str, port: u16) -> Vec<u64> {
    let suffix = format!(":{port:04X}");
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let listens = words.get(1)?.ends_with(&suffix) && *words.get(3)? == "0A";
            listens.then(|| words.get(9)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener_here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_here.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        drop(listener_here);
        assert_eq!(listener(port), None);
    }
}
