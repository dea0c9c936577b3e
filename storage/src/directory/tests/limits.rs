//! A full map and a full disk.

use super::*;

fn small(map_bytes_max: u64) -> Options {
    Options { map_bytes_max, ..options() }
}

#[test]
fn a_full_map_fails_the_change_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory");
    let directory = Directory::open(&path, &small(1 << 20)).unwrap();
    add_account(&directory, "juliet");
    let fill = |n: usize| -> Job<()> {
        Box::new(move |t| t.set_private("juliet", &n.to_string(), "urn:x", &[b'x'; 50_000]))
    };
    let stored = (0..).take_while(|n| run_inline(&directory, fill(*n)).is_ok()).count();
    assert!(stored > 5, "{stored}");
    let error = run_inline(&directory, fill(stored)).unwrap_err();
    assert!(matches!(error, DirectoryError::Full { map_bytes: 0x10_0000 }), "{error}");
    assert!(error.to_string().contains("directory_gib_max"), "{error}");
    let (sender, results) = std::sync::mpsc::channel();
    let deliver = move |ticket: u64, result| sender.send((ticket, result)).unwrap();
    let writer: Writer<()> = Writer::start(directory.clone(), 10, deliver).unwrap();
    // Room is made for the change after the one that does not fit.
    writer.try_submit(0, fill(stored)).unwrap();
    writer.try_submit(1, Box::new(|t| t.set_private("juliet", "0", "urn:x", b"short"))).unwrap();
    writer.try_submit(2, Box::new(|t| t.set_blocked("juliet", &["romeo@x".into()]))).unwrap();
    writer.finish();
    let results: Vec<(u64, Result<(), DirectoryError>)> = results.try_iter().collect();
    assert!(matches!(results[0], (0, Err(DirectoryError::Full { .. }))), "{results:?}");
    assert!(matches!(results[1..], [(1, Ok(())), (2, Ok(()))]), "{results:?}");
    drop(writer);
    drop(directory);
    let directory = Directory::open(&path, &small(4 << 20)).unwrap();
    assert_eq!(directory.private("juliet", "0", "urn:x").unwrap().as_deref(), Some(&b"short"[..]));
    assert_eq!(directory.private("juliet", &stored.to_string(), "urn:x").unwrap(), None);
    for n in 1..stored {
        assert_eq!(directory.private("juliet", &n.to_string(), "urn:x").unwrap().unwrap().len(), 50_000);
    }
    run_inline(&directory, fill(stored)).expect("a larger map has room");
    drop(directory);
    // A map smaller than the file is made as large as the file.
    let directory = Directory::open(&path, &small(1 << 20)).unwrap();
    assert_eq!(directory.blocked("juliet").unwrap(), ["romeo@x"]);
}

#[test]
fn a_large_map_costs_address_space_only() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::open(folder.path(), &small(64 << 30)).unwrap();
    add_account(&directory, "juliet");
    assert_eq!(directory.map_bytes(), 64 << 30);
    let file = std::fs::metadata(folder.path().join("data.mdb")).unwrap();
    assert!(file.len() < 1 << 20, "{} bytes", file.len());
}

#[test]
fn a_value_over_the_limit_is_refused() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let result = run_inline(&directory, Box::new(|t| t.set_vcard("juliet", &vec![0; VALUE_BYTES_MAX + 1])));
    assert!(matches!(result, Err(DirectoryError::Size { .. })), "{result:?}");
    assert_eq!(directory.vcard("juliet").unwrap(), None);
    write(&directory, |t| t.set_vcard("juliet", &vec![0; 1 << 20]));
    assert_eq!(directory.vcard("juliet").unwrap().unwrap().len(), 1 << 20);
}

/// Runs as a process of its own from the next test, and does nothing otherwise.
#[test]
fn child_that_fills_its_disk() {
    let Some(path) = std::env::var_os("WHIMBREL_TEST_FILL") else { return };
    let directory = open(Path::new(&path));
    add_account(&directory, "juliet");
    let fill = |n: usize| -> Job<()> {
        Box::new(move |t| t.set_private("juliet", &n.to_string(), "urn:x", &[b'x'; 50_000]))
    };
    for n in 0..100 {
        if let Err(error) = run_inline(&directory, fill(n)) {
            println!("child: {n} {error:?}");
            println!("child: {error}");
            break;
        }
    }
    assert!(directory.account_exists("juliet").unwrap());
    let item = Item { contact: "a@b".into(), ..Item::default() };
    let after = run_inline(&directory, Box::new(move |t| t.put_roster_item("juliet", &item)));
    println!("child: after {after:?}");
}

/// The limit on file sizes stands for the disk: the system refuses the write in the same way.
#[test]
fn a_full_disk_is_an_error_in_words_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory");
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "directory::tests::limits::child_that_fills_its_disk", "--nocapture"])
        .env("WHIMBREL_TEST_FILL", &path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        (said.contains("DiskFull") || said.contains("DiskRefused")) && said.contains("free some space"),
        "{said}"
    );
    let failed_at: usize =
        said.split("child: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    let directory = open(&path);
    for n in 0..failed_at {
        assert!(
            directory.private("juliet", &n.to_string(), "urn:x").unwrap().is_some(),
            "{n} of {failed_at}"
        );
    }
    assert_eq!(directory.private("juliet", &failed_at.to_string(), "urn:x").unwrap(), None);
}
