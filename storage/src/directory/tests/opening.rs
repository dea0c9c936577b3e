//! Who may open what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

fn error(path: &Path, options: &Options) -> DirectoryError {
    Directory::open(path, options).expect_err("this must not open")
}

#[test]
fn a_new_directory_is_its_owners_alone() {
    let (folder, _directory) = new_directory();
    let path = folder.path().join("directory");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap().path();
        assert_eq!(mode(&entry), 0o600, "{}", entry.display());
    }
}

#[test]
fn it_is_opened_once_at_a_time_and_the_error_names_path_and_process() {
    let (folder, directory) = new_directory();
    let path = folder.path().join("directory");
    let clone = directory.clone();
    drop(directory);
    let error = error(&path, &options());
    let text = error.to_string();
    assert!(
        matches!(error, DirectoryError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{text}"
    );
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    fs::remove_file(path.join("whimbrel.lock")).unwrap();
    let again = self::error(&path, &options());
    assert!(matches!(again, DirectoryError::Locked { .. }), "whatever is removed: {again}");
    drop(clone);
    open(&path);
}

/// Runs as a process of its own from the next test, and does nothing otherwise.
#[test]
fn child_that_opens_a_directory() {
    if let Some(path) = std::env::var_os("WHIMBREL_TEST_OPEN") {
        let opened = Directory::open(Path::new(&path), &options());
        println!("child: {}", opened.map_or_else(|error| error.to_string(), |_| "opened".into()));
    }
}

/// What the test above says when it is run by a command.
fn child(mut command: Command, path: &Path) -> String {
    let output = command
        .args(["--exact", "directory::tests::opening::child_that_opens_a_directory", "--nocapture"])
        .env("WHIMBREL_TEST_OPEN", path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Needs mounts of its own, so it passes by where the system gives none to this user.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_file_system_is_named_as_such() {
    let (folder, directory) = new_directory();
    drop(directory);
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" || { echo no mounts; exit 0; }; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(folder.path()).arg(std::env::current_exe().unwrap());
    let said = child(command, &folder.path().join("directory"));
    if !said.contains("child: ") {
        eprintln!("skipped: {said}");
        return;
    }
    assert!(said.contains("the file system is read-only"), "{said}");
}

#[test]
fn another_process_is_told_who_holds_it() {
    let (folder, directory) = new_directory();
    let path = folder.path().join("directory");
    let child = || child(Command::new(std::env::current_exe().unwrap()), &path);
    let said = child();
    assert!(said.contains(&format!("is in use by process {}", std::process::id())), "{said}");
    drop(directory);
    let said = child();
    assert!(said.contains("child: opened"), "{said}");
}

#[test]
fn a_path_that_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    assert!(matches!(error(&path, &options()), DirectoryError::NotAFolder { .. }));
}

#[test]
fn a_folder_of_somebody_else_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let error = error(folder.path(), &options());
    assert!(matches!(&error, DirectoryError::Foreign { what, .. } if what.contains("letter.txt")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_of_another_format_is_refused() {
    for content in [&b"SQLite format 3\0"[..], &[0x5a; 50_000], &[0; 16_384]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data.mdb"), content).unwrap();
        let error = error(folder.path(), &options());
        assert!(matches!(&error, DirectoryError::Foreign { .. }), "{error}");
        assert_eq!(fs::read(folder.path().join("data.mdb")).unwrap(), content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was added");
    }
}

#[test]
fn an_lmdb_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: nothing else opens this folder.
    let env = unsafe { heed::EnvOpenOptions::new().max_dbs(2).open(folder.path()).unwrap() };
    let mut txn = env.write_txn().unwrap();
    let table: heed::Database<heed::types::Bytes, heed::types::Bytes> =
        env.create_database(&mut txn, Some("birds")).unwrap();
    table.put(&mut txn, b"whimbrel", b"Numenius phaeopus").unwrap();
    txn.commit().unwrap();
    drop(env);
    let error = error(folder.path(), &options());
    assert!(
        matches!(&error, DirectoryError::Foreign { what, .. } if what.contains("another program")),
        "{error}"
    );
}

#[test]
fn another_domains_directory_is_refused() {
    let (folder, directory) = new_directory();
    drop(directory);
    let path = folder.path().join("directory");
    let error = error(&path, &Options { domain: "example.com".into(), ..options() });
    let DirectoryError::OtherDomain { found, wanted, .. } = &error else { panic!("{error}") };
    assert_eq!((&**found, &**wanted), (DOMAIN, "example.com"));
    open(&path);
}

#[test]
fn another_format_is_refused_and_named() {
    for (format, whose) in [(1_u32, "an earlier release"), (3, "a later release")] {
        let (folder, directory) = new_directory();
        write(&directory, move |t| {
            let mut fields = codec::Encoder::new(8);
            fields.text(&format.to_le_bytes());
            t.put(tables::Table::Meta, b"format", &fields.seal(b"format"))
        });
        drop(directory);
        let error = error(&folder.path().join("directory"), &options());
        assert!(matches!(error, DirectoryError::UnknownFormat { known: 2, .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("has format {format}")) && said.contains(whose), "{said}");
        assert!(said.contains("run the release that wrote it"), "{said}");
    }
}

#[test]
fn an_interrupted_first_start_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("whimbrel.lock"), "").unwrap();
    fs::write(folder.path().join("data.mdb"), "").unwrap();
    add_account(&open(folder.path()), "juliet");
    let folder = tempfile::tempdir().unwrap();
    // SAFETY: nothing else opens this folder.
    drop(unsafe { heed::EnvOpenOptions::new().open(folder.path()).unwrap() });
    add_account(&open(folder.path()), "juliet");
    assert!(open(folder.path()).account_exists("juliet").unwrap());
}

#[test]
fn where_nothing_is_nothing_is_made_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let error = Directory::open_beside(folder.path(), &options()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("data.mdb"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_opened_to_be_read_is_not_written_to_and_not_locked() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let path = folder.path().join("directory");
    drop(directory);
    let reader = Directory::open_beside(&path, &options()).unwrap();
    assert!(reader.account_exists("juliet").unwrap());
    let refused = run_inline(&reader, Box::new(|t| t.set_data_set(1, false)));
    assert!(refused.is_err(), "it is written to");
    assert!(lock::take(&path).is_ok(), "it is locked");
    drop(reader);
    assert!(open(&path).account_exists("juliet").unwrap());
}
