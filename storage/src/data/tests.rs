//! Directory and log as they may be found beside each other.

mod increments;

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::credentials::Credentials;
use crate::directory;
use crate::log::{Flags, Message, Options, Origin, PeerHash};
use crate::pace::Pace;

/// A data directory that is served.
struct Served {
    directory: Directory,
    opened: Opened,
    reconciled: Reconciled,
}

fn serve(data: &Path) -> Result<Served, DataError> {
    examine(data)?;
    let directory = open_directory(data);
    check_tie(data, &directory)?;
    let options = Options {
        segment_bytes: 64 << 10,
        payload_bytes_max: 1 << 10,
        log_bytes_max: 1 << 20,
        ..Options::default()
    };
    let mut opened = Log::open_all(&data.join(LOG), &options, 1, &|_| Some(0), &|_| {})?;
    let reconciled = reconcile(data, &directory, &mut opened, false)?;
    Ok(Served { directory, opened, reconciled })
}

fn open_directory(data: &Path) -> Directory {
    let options = directory::Options { durable: false, map_bytes_max: 1 << 26, ..Default::default() };
    Directory::open(&data.join(DIRECTORY), &options).expect("the directory opens")
}

fn add(directory: &Directory, local: &str) -> ActorId {
    let keys = Credentials::derive("secret", NonZeroU32::MIN).expect("keys");
    let name = local.to_owned();
    assert!(run_inline(directory, Box::new(move |t| t.create_account(&name, &keys))).expect("it is made"));
    directory.account_id(local).expect("it reads").expect("it is there")
}

impl Served {
    fn add(&self, local: &str) -> ActorId {
        add(&self.directory, local)
    }

    fn send(&mut self, user: ActorId) {
        self.send_texts(user, &[b"private"]);
    }

    /// One commit for all.
    fn send_texts(&mut self, user: ActorId, texts: &[&[u8]]) {
        for payload in texts {
            self.append(user, payload);
        }
        self.opened.logs[0].commit_now().expect("it is committed");
    }

    fn append(&mut self, user: ActorId, payload: &[u8]) {
        let message = Message {
            actor: user,
            time_ms: 1,
            flags: Flags::NONE,
            origin: Origin::default(),
            peer: PeerHash::NONE,
            payload,
        };
        self.opened.logs[0].append(&message).expect("there is room");
    }

    fn waiting(&self, user: ActorId) -> usize {
        self.opened.logs[0].pending(user).count()
    }

    fn stop(self) {
        for log in self.opened.logs {
            log.close().expect("it closes");
        }
    }
}

/// A data directory of two accounts, each with a message, and its two numbers.
fn with_messages() -> (TempDir, PathBuf, [ActorId; 2]) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let mut served = serve(&data).expect("a new data directory");
    let numbers = ["juliet", "romeo"].map(|local| served.add(local));
    for number in numbers {
        served.send(number);
    }
    served.stop();
    (folder, data, numbers)
}

/// A backup that stands alone.
fn backup_to(data: &Path, directory: &Directory, to: &Path) -> Result<BackedUp, DataError> {
    backup(data, directory, to, 0, &mut Pace::new(None))
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it is copied");
        }
    }
}

#[test]
fn a_log_without_its_directory_is_refused_until_it_is_given_up() {
    for is_emptied in [false, true] {
        let (_folder, data, _) = with_messages();
        let file = data.join("directory/data.mdb");
        match is_emptied {
            true => fs::write(&file, b"").expect("it is emptied"),
            false => fs::remove_dir_all(data.join(DIRECTORY)).expect("it is removed"),
        }
        let error = serve(&data).err().expect("it is refused");
        assert!(matches!(error, DataError::DirectoryMissing { .. }), "{error}");
        assert!(error.to_string().contains("log discard"), "{error}");
        // One made beside it does not belong to it.
        drop(open_directory(&data));
        let error = serve(&data).err().expect("it is refused");
        assert!(matches!(error, DataError::Strangers { .. }), "{error}");
        let aside = log::discard(&data.join(LOG)).expect("it is moved");
        assert!(aside.join("layout").exists());
        let served = serve(&data).expect("it begins anew");
        assert_eq!(served.opened.report.messages, 0);
    }
}

#[test]
fn a_directory_without_its_log_is_refused_until_that_is_given_up() {
    let (_folder, data, numbers) = with_messages();
    fs::remove_dir_all(data.join(LOG)).expect("it is removed");
    for _ in 0..2 {
        let error = serve(&data).err().expect("it is refused");
        assert!(matches!(error, DataError::LogMissing { .. }), "{error}");
    }
    forget_log(&open_directory(&data)).expect("it is noted");
    let served = serve(&data).expect("it goes on with an empty log");
    assert_eq!(served.waiting(numbers[0]), 0);
}

#[test]
fn directory_and_log_of_different_data_sets_are_refused() {
    let (_folder, data, _) = with_messages();
    let (_other_folder, other, _) = with_messages();
    fs::remove_dir_all(data.join(LOG)).expect("it is removed");
    fs::rename(other.join(LOG), data.join(LOG)).expect("it is moved");
    let error = serve(&data).err().expect("it is refused");
    assert!(matches!(error, DataError::Strangers { .. }), "{error}");
}

#[test]
fn with_an_older_directory_no_new_account_gets_the_mail_of_another() {
    let (folder, data, numbers) = with_messages();
    let older = folder.path().join("older");
    copy_all(&data.join(DIRECTORY), &older);
    let mut served = serve(&data).expect("it goes on");
    for number in 0..20 {
        let number = served.add(&format!("later{number}"));
        served.send(number);
    }
    served.stop();
    fs::remove_dir_all(data.join(DIRECTORY)).expect("it is removed");
    fs::rename(&older, data.join(DIRECTORY)).expect("it is moved");

    let served = serve(&data).expect("the same data set");
    assert_eq!(served.reconciled, Reconciled { orphans: 20, never_had: 20, messages: 20 });
    assert_eq!(served.waiting(numbers[0]), 1, "what the directory knows is kept");
    for number in 0..30 {
        let new = served.add(&format!("new{number}"));
        assert!(new.count() > 22, "{new:?}");
        assert_eq!(served.waiting(new), 0);
    }
    served.stop();
    assert_eq!(serve(&data).expect("again").reconciled, Reconciled::default());
}

#[test]
fn parts_of_two_copies_that_have_gone_on_deliver_nothing_to_others() {
    let (folder, data, _) = with_messages();
    let copy = folder.path().join("copy");
    copy_all(&data, &copy);
    let mut served = serve(&data).expect("it goes on");
    let here: Vec<ActorId> = (0..20).map(|number| served.add(&format!("here{number}"))).collect();
    here.iter().for_each(|number| served.send(*number));
    served.stop();
    let served = serve(&copy).expect("so does the copy");
    let there: Vec<ActorId> = (0..20).map(|number| served.add(&format!("there{number}"))).collect();
    served.stop();
    fs::remove_dir_all(data.join(DIRECTORY)).expect("it is removed");
    fs::rename(copy.join(DIRECTORY), data.join(DIRECTORY)).expect("it is moved");
    let served = serve(&data).expect("the same data set");
    assert_eq!(served.reconciled.messages, 20);
    assert!(there.iter().all(|number| served.waiting(*number) == 0));
}

#[test]
fn what_waits_for_a_deleted_account_is_dropped_at_the_next_start() {
    let (_folder, data, numbers) = with_messages();
    run_inline(&open_directory(&data), Box::new(|t| t.delete_account("romeo"))).expect("it is deleted");
    let served = serve(&data).expect("it goes on");
    assert_eq!(served.reconciled, Reconciled { orphans: 1, never_had: 0, messages: 1 });
    assert_eq!((served.waiting(numbers[0]), served.waiting(numbers[1])), (1, 0));
}

#[test]
fn accounts_made_during_a_backup_keep_their_mail_for_themselves() {
    let (folder, data, _) = with_messages();
    let mut served = serve(&data).expect("it goes on");
    let directory = served.directory.clone();
    let to = |number: usize| folder.path().join(format!("copy{number}"));
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let backups = scope.spawn(|| {
            for number in 0..5 {
                backup_to(&data, &directory, &to(number)).expect("it is copied");
            }
            is_done.store(true, std::sync::atomic::Ordering::Release);
        });
        // At least one, and as many as can be made meanwhile.
        let mut number = 0;
        while number == 0 || !is_done.load(std::sync::atomic::Ordering::Acquire) {
            if number < 400 {
                let account = served.add(&format!("meanwhile{number}"));
                served.send(account);
            }
            number += 1;
        }
        backups.join().expect("the backups are made");
    });
    served.stop();
    drop(directory);
    for number in 0..5 {
        let served = serve(&to(number)).expect("the copy can be served");
        assert_eq!(served.reconciled, Reconciled::default(), "the copy has the account of every message");
        for number in 0..20 {
            assert_eq!(served.waiting(served.add(&format!("after{number}"))), 0);
        }
    }
}

#[test]
fn a_backup_goes_into_a_new_or_an_empty_folder_outside_the_data() {
    let (folder, data, _) = with_messages();
    let served = serve(&data).expect("it goes on");
    let path = |name: &str| folder.path().join(name);
    for name in ["used", "empty", "links"] {
        fs::create_dir(path(name)).expect("a folder");
    }
    fs::write(path("used/important"), "x").expect("a file");
    symlink(&data, path("links/data")).expect("a link");
    symlink(path("nowhere"), path("links/nowhere")).expect("a link");
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(&data);
    for (to, text) in [
        (path("used"), "not empty"),
        (data.clone(), "in the data directory"),
        (data.join("copy"), "in the data directory"),
        (data.join("log/a/b"), "in the data directory"),
        (path("links/data/copy"), "in the data directory"),
        (path("empty/../data/copy"), "in the data directory"),
        (folder.path().to_owned(), "is in it"),
        (path("links/nowhere"), "cannot be written"),
        (path("used/important"), "cannot be written"),
    ] {
        let error = backup_to(&data, &served.directory, &to).expect_err("it is refused").to_string();
        assert!(error.contains(text), "{}: {error}", to.display());
    }
    assert_eq!((names(&data), names(&path("used"))), (before, vec!["important".into()]));
    for to in ["empty", "new", "new-too/deep"] {
        backup_to(&data, &served.directory, &path(to)).expect("it is copied");
        assert_eq!(names(&path(to)), ["backup-manifest", "directory", "log"]);
    }
}

#[test]
fn an_unfinished_backup_is_no_data_directory_and_a_failed_one_leaves_nothing() {
    let (folder, data, _) = with_messages();
    let to = folder.path().join("to");
    let directory = open_directory(&data);
    // It cannot be read when its turn comes.
    fs::rename(data.join("log/layout"), data.join("log/elsewhere")).expect("it is moved");
    assert!(backup_to(&data, &directory, &to).is_err());
    assert!(!to.exists(), "nothing is left of it");
    fs::rename(data.join("log/elsewhere"), data.join("log/layout")).expect("it is moved");
    backup_to(&data, &directory, &to).expect("it is copied");
    fs::write(to.join(UNFINISHED), "").expect("a file");
    let error = serve(&to).err().expect("it is refused");
    assert!(matches!(error, DataError::Unfinished { .. }), "{error}");
}
