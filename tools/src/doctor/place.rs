//! The data directory: owner, mode, file system, free space.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Finding;
use super::system::{output, size};

/// Free space below which the server should not be left alone.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// File systems that other machines share: locks and memory maps do not hold on them.
const NETWORK: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs"];

/// File systems that are gone with the machine.
const FLEETING: [&str; 2] = ["tmpfs", "ramfs"];

/// Looks at everything.
pub(super) fn check(data: &Path) -> Vec<Finding> {
    let check = "data directory";
    let shown = data.display();
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note(check, format!("{shown} is not there yet; the server makes it"))];
        }
        Err(error) => {
            let text = format!("{shown} cannot be read: {error}");
            return vec![Finding::mend(check, text, format!("sudo whimbrelctl --data {shown} doctor"))];
        }
    };
    if !metadata.is_dir() {
        let text = format!("{shown} is no directory");
        return vec![Finding::mend(check, text, format!("mv {shown} {shown}.old"))];
    }
    let mut findings = vec![mode(data, metadata.permissions().mode()), owners(data, metadata.uid())];
    findings.extend(secrets(data));
    // -k: KiB, -P: one line a file system, -T: with its type; Linux and FreeBSD both know them.
    if let Some(text) = data.to_str().and_then(|path| output("df", &["-kPT", path]))
        && let Some(volume) = Volume::parse(&text)
    {
        findings.extend(volume.judge(data));
    }
    findings
}

fn mode(data: &Path, mode: u32) -> Finding {
    let check = "data directory";
    let (shown, mode) = (data.display(), mode & 0o7777);
    if mode & 0o077 == 0 {
        return Finding::good(check, format!("{shown}, mode {mode:o}"));
    }
    let text = format!("{shown} has mode {mode:o}: other users may look into it");
    Finding::mend(check, text, format!("chmod 700 {shown}"))
}

/// The data directory's mode keeps others out; where it is a link or was opened up, these must.
fn secrets(data: &Path) -> Option<Finding> {
    let parts = ["directory", "directory/data.mdb", "log", "tls"];
    let open = parts
        .iter()
        .map(|part| data.join(part))
        .find(|path| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0))?;
    let shown = data.display();
    let text =
        format!("{} may be looked into by others: accounts, messages and keys are in it", open.display());
    Some(Finding::mend("data directory", text, format!("chmod -R go= {shown}")))
}

/// What lies in the data directory must belong to its owner, or the server cannot use it.
fn owners(data: &Path, owner: u32) -> Finding {
    let check = "owner";
    let shown = data.display();
    let folders = [data.to_owned(), data.join("directory")];
    let strange =
        folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().find(
            // Not followed, and not read: names and owners only.
            |entry| entry.metadata().is_ok_and(|found| found.uid() != owner),
        );
    match strange {
        None => Finding::good(check, format!("everything in {shown} belongs to user {owner}")),
        Some(entry) => {
            let text =
                format!("{} does not belong to user {owner} like {shown} itself", entry.path().display());
            Finding::mend(check, text, format!("chown -R {owner} {shown}"))
        }
    }
}

/// A line of df.
#[derive(Debug, PartialEq)]
struct Volume {
    kind: String,
    free_bytes: u64,
    mounted: String,
}

impl Volume {
    /// Reads `Filesystem Type 1024-blocks Used Available Capacity Mounted`. The name of the file system may hold
    /// blanks, so the columns are counted from the one with the percent sign.
    fn parse(text: &str) -> Option<Volume> {
        let words: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
        let percent = words.iter().position(|word| word.ends_with('%'))?;
        let free_kib: u64 = words.get(percent.checked_sub(1)?)?.parse().ok()?;
        Some(Volume {
            kind: (*words.get(percent.checked_sub(4)?)?).to_owned(),
            free_bytes: free_kib * 1024,
            mounted: words.get(percent + 1..)?.join(" "),
        })
    }

    fn judge(&self, data: &Path) -> Vec<Finding> {
        let shown = data.display();
        let Volume { kind, free_bytes, mounted } = self;
        let space = if *free_bytes >= FREE_BYTES_MIN {
            Finding::good("free space", format!("{} on {mounted}", size(*free_bytes)))
        } else {
            let text = format!("{} on {mounted}; changes fail when it is full", size(*free_bytes));
            Finding::mend("free space", text, format!("du -xh {mounted} | sort -h | tail -20"))
        };
        let name = kind.to_ascii_lowercase();
        let file_system = if NETWORK.contains(&&*name) {
            let text =
                format!("{kind} on {mounted}: locks and memory maps do not hold on network file systems");
            let command = format!("systemctl stop whimbreld && mv {shown} /var/lib/whimbrel");
            Finding::mend("file system", text, command)
        } else if FLEETING.contains(&&*name) {
            Finding::note(
                "file system",
                format!("{kind} on {mounted}: everything is gone when the machine stops"),
            )
        } else {
            Finding::good("file system", format!("{kind} on {mounted}"))
        };
        vec![space, file_system]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn df(line: &str) -> Volume {
        let head = "Filesystem Type 1024-blocks Used Available Capacity Mounted on\n";
        Volume::parse(&format!("{head}{line}\n")).expect("a line of df")
    }

    #[test]
    fn df_is_read_also_with_blanks_in_names() {
        let volume = df("my disk ext4 100 60 40 60% /srv/my data");
        assert_eq!(
            volume,
            Volume { kind: "ext4".into(), free_bytes: 40 * 1024, mounted: "/srv/my data".into() }
        );
        assert_eq!(Volume::parse("Filesystem\nnonsense\n"), None);
    }

    #[test]
    fn a_network_file_system_and_a_full_one_must_be_mended() {
        let levels = |line: &str| {
            df(line).judge(Path::new("d")).into_iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels("/dev/sda ext4 9 9 9000000 1% /"), [Level::Good, Level::Good]);
        assert_eq!(levels("server:/x nfs4 9 9 9000000 1% /x"), [Level::Good, Level::Mend]);
        assert_eq!(levels("tmpfs tmpfs 9 9 100 99% /tmp"), [Level::Mend, Level::Note]);
    }

    #[test]
    fn a_directory_open_to_others_must_be_closed() {
        for (found, level) in [(0o40700, Level::Good), (0o40750, Level::Mend), (0o40755, Level::Mend)] {
            assert_eq!(mode(Path::new("d"), found).level, level, "{found:o}");
        }
    }
}
