//! Disks that are full, that fail for a while, and that become read-only, under load.
//!
//! In every case: the server stays up and says what is wrong; what cannot be kept is refused with the right error and
//! never acknowledged as kept; what does not need the disk goes on; and in the end what was acknowledged and not refused
//! has arrived, once and in order, and nothing that was refused has.
//!
//! The disks are mounted for the test, which only root may do. Where that is impossible, the test says so and passes;
//! with `WHIMBREL_REQUIRE_MOUNTS` set it fails.

mod mount;
mod talk;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::archives;
use crate::client::Client;
use crate::server::{Server, create_accounts, free_address, names_at_home_on};
use crate::wait_until;
use mount::{Ballast, Mount};
use talk::{Preferred, Recipient, Sender, add_contact, newest_page, ping, prefer};

/// What fills a disk may come from one sender.
const CONFIG: &str = "[limits]\noffline_percent_per_stranger = 100\noffline_percent_strangers = 100\n";

/// Messages of a round.
const ROUND: usize = 100;

/// Rounds in which many blocks of an archive are filled, of 64 messages each.
const BLOCKS_ROUNDS: usize = 15;

/// Accounts and their server on a disk.
struct Scene {
    disk: Mount,
    address: std::net::SocketAddr,
    /// At home on the first worker, as nobody who is away is.
    reader: String,
    /// There as well: what they send goes on while the second has no room, and so does their own archive.
    senders: Vec<String>,
    /// Both on the second.
    absent: String,
    neighbour: String,
    server: Server,
    /// What the server says.
    log: tempfile::NamedTempFile,
}

impl Scene {
    fn on(disk: Mount) -> Scene {
        fs::create_dir(disk.path().join("data")).unwrap();
        Scene::in_folder(disk)
    }

    /// With the directory on a disk of its own.
    fn on_two(disk: Mount, directory: &Mount) -> Scene {
        let (data, elsewhere) = (disk.path().join("data"), directory.path().join("directory"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(elsewhere, data.join("directory")).unwrap();
        Scene::in_folder(disk)
    }

    fn in_folder(disk: Mount) -> Scene {
        let data = disk.path().join("data");
        let reader = names_at_home_on(&data, 0, "reader", 1).remove(0);
        let senders = names_at_home_on(&data, 0, "sender", 3);
        let mut others = names_at_home_on(&data, 1, "other", 2);
        let (absent, neighbour) = (others.remove(0), others.remove(0));
        let names = ["watcher", &reader, &absent, &neighbour].map(str::to_owned);
        create_accounts(&data, names.into_iter().chain(senders.iter().cloned()));
        let (address, log) = (free_address(), tempfile::NamedTempFile::new().unwrap());
        let server = Server::start(&data, address, CONFIG, Some(log.path()));
        Scene { disk, address, reader, senders, absent, neighbour, server, log }
    }

    fn start_again(&mut self) {
        let data = self.disk.path().join("data");
        self.server = Server::start(&data, self.address, CONFIG, Some(self.log.path()));
    }

    fn sender(&self, number: usize, to: &str) -> Sender {
        Sender::new(self.address, &self.senders[number], to)
    }

    fn recipient(&self, name: &str) -> Recipient {
        Recipient::log_in(self.address, name)
    }

    fn watcher(&self) -> Client {
        let mut client = Client::log_in(self.address, "watcher").unwrap();
        client.bind().unwrap();
        client
    }

    #[track_caller]
    fn has_said(&self, text: &str) {
        wait_until(text, || fs::read_to_string(self.log.path()).unwrap().contains(text));
    }

    /// What needs no disk goes on: the server answers, and hands on what it does not keep.
    #[track_caller]
    fn goes_on(&mut self, watcher: &mut Client, reader: &mut Recipient) {
        self.server.is_alive();
        ping(watcher);
        let before = reader.headlines;
        watcher.say(&format!("<message to='{}@localhost' type='headline'/>", self.reader)).unwrap();
        reader.read_until(|reader| reader.headlines > before);
    }

    /// No server runs: what archives have is whole. A log that has no room lets go of what was archived first, so there may be no
    /// more than the newest messages, without a hole.
    fn compare_archives(&self, senders: &[&Sender], recipients: &[&str]) {
        let data = self.disk.path().join("data");
        let whose = senders.iter().map(|sender| (&*sender.name, true));
        for (name, is_sender) in whose.chain(recipients.iter().map(|name| (*name, false))) {
            let found = archives::of_account(&data, name);
            for sender in senders.iter().filter(|sender| sender.name == name || sender.to == name) {
                let of: Vec<u64> =
                    found.iter().filter(|(of, _)| *of == sender.name).map(|(_, n)| *n).collect();
                sender.compare_archive(name, &of, is_sender);
            }
        }
    }

    /// After the server has started again: everybody's last message, and with it all before it, has come to `absent`.
    fn settle(&self, senders: &mut [Sender], absent: &mut Recipient) {
        for sender in &mut *senders {
            // The first attempt may find that the old stream is over.
            wait_until("messages are taken", || sender.round(1).is_ok_and(|refused| refused == 0));
        }
        let last: Vec<_> = senders.iter().map(|sender| (sender.name.clone(), sender.last())).collect();
        absent.read_until(|absent| last.iter().all(|(name, n)| absent.got(name).last() == Some(n)));
        for sender in senders {
            sender.compare(absent.got(&sender.name));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read_to_string(self.log.path()).unwrap_or_default();
            let lines: Vec<_> = said.lines().collect();
            eprintln!("the server's last words:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// The files of segments of a log.
fn segments(scene: &Scene, log: usize) -> Vec<PathBuf> {
    let folder = scene.disk.path().join(format!("data/log/generation-1/{log}"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect()
}

#[test]
fn on_a_full_disk_messages_are_refused_and_others_go_on_until_there_is_room() {
    let Some(disk) = Mount::tmpfs(24 << 20) else { return };
    let mut scene = Scene::on(disk);
    let mut reader = scene.recipient(&scene.reader);
    let mut watcher = scene.watcher();
    let mut to_reader = scene.sender(0, &scene.reader);
    let mut to_absent = scene.sender(1, &scene.absent);
    let mut to_neighbour = scene.sender(2, &scene.neighbour);
    for sender in [&mut to_reader, &mut to_absent, &mut to_neighbour] {
        assert_eq!(sender.round(ROUND).unwrap(), 0, "there is room");
    }
    wait_until("each log has its next segment", || (0..2).all(|log| segments(&scene, log).len() > 1));
    let ballast = Ballast::fill(scene.disk.path());

    // What is read makes room for what comes, on a full disk too: several segments' worth of it. Whether the next segment
    // is there in time is chance, so some may be refused.
    while reader.got(&to_reader.name).len() < 60 * ROUND {
        if to_reader.round(ROUND).unwrap() > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        reader.read_until(|reader| reader.got(&to_reader.name).len() == to_reader.kept());
    }
    to_reader.compare(reader.got(&to_reader.name));

    // What waits fills its log: there it ends for everybody whose home it is.
    wait_until("what cannot be kept is refused", || to_absent.round(ROUND).unwrap() > 0);
    wait_until("nothing fits any more", || to_absent.round(ROUND).unwrap() == ROUND);
    assert_eq!(to_absent.conditions(), ["resource-constraint"]);
    assert_eq!(to_neighbour.round(ROUND).unwrap(), ROUND);
    assert_eq!(to_neighbour.conditions(), ["resource-constraint"]);
    scene.has_said("messages are refused");
    scene.has_said("the disk is full");
    scene.goes_on(&mut watcher, &mut reader);
    // Archives can be read, and what is to be in them is as it was or as it was asked for.
    assert!(newest_page(&mut watcher).is_empty(), "nobody writes to it");
    let mut preferred = Preferred::default();
    for wish in ["roster", "never", "always"] {
        prefer(&mut watcher, wish, &mut preferred);
    }
    let page = to_absent.newest_page();
    assert!(!page.is_empty() && page.is_sorted(), "what was sent can be read: {page:?}");
    let before = reader.got(&to_reader.name).len();
    while reader.got(&to_reader.name).len() < before + 5 * ROUND {
        to_reader.round(ROUND).unwrap();
        reader.read_until(|reader| reader.got(&to_reader.name).len() == to_reader.kept());
    }

    drop(ballast);
    wait_until("messages are taken when there is room", || to_absent.round(ROUND).unwrap() == 0);
    assert_eq!(to_neighbour.round(ROUND).unwrap(), 0);
    assert_eq!(to_reader.round(ROUND).unwrap(), 0);
    reader.read_until(|reader| reader.got(&to_reader.name).len() == to_reader.kept());
    to_reader.compare(reader.got(&to_reader.name));
    scene.server.kill();
    scene.start_again();
    let mut absent = scene.recipient(&scene.absent);
    let mut neighbour = scene.recipient(&scene.neighbour);
    let (mut to_absent, mut to_neighbour) = ([to_absent], [to_neighbour]);
    scene.settle(&mut to_absent, &mut absent);
    scene.settle(&mut to_neighbour, &mut neighbour);
    scene.server.stop();
    let [to_absent, to_neighbour] = [&to_absent[0], &to_neighbour[0]];
    let recipients = [&*scene.reader, &*scene.absent, &*scene.neighbour];
    scene.compare_archives(&[&to_reader, to_absent, to_neighbour], &recipients);
}

#[test]
fn while_the_disk_of_the_directory_is_full_archives_grow_and_their_index_follows() {
    let Some((disk, small)) = Mount::tmpfs(96 << 20).zip(Mount::tmpfs(8 << 20)) else { return };
    let mut scene = Scene::on_two(disk, &small);
    let mut reader = scene.recipient(&scene.reader);
    let mut watcher = scene.watcher();
    let mut to_reader = scene.sender(0, &scene.reader);
    let mut to_absent = scene.sender(1, &scene.absent);
    for round in 0..2 {
        let ballast = Ballast::fill(small.path());
        // Rows of the index are due all the time.
        for _ in 0..BLOCKS_ROUNDS {
            assert_eq!(to_reader.round(ROUND).unwrap(), 0, "the log has room");
            assert_eq!(to_absent.round(ROUND).unwrap(), 0, "the log has room");
            reader.read_until(|reader| reader.got(&to_reader.name).len() == to_reader.kept());
        }
        let refused = |watcher: &mut Client, n: usize| !add_contact(watcher, &format!("contact{round}-{n}"));
        assert!((0..500).any(|n| refused(&mut watcher, n)), "the directory has no room");
        scene.goes_on(&mut watcher, &mut reader);
        let page = to_reader.newest_page();
        assert_eq!(page.last(), Some(&to_reader.last()), "{page:?}");
        if round == 1 {
            // The index is behind, and what it lacks is in the log alone.
            scene.server.kill();
        }
        drop(ballast);
        if round == 1 {
            scene.start_again();
            reader = scene.recipient(&scene.reader);
            watcher = scene.watcher();
        }
        wait_until("the directory is written again", || add_contact(&mut watcher, &scene.senders[0]));
        wait_until("messages are taken", || to_reader.round(1).is_ok_and(|refused| refused == 0));
        wait_until("messages are taken", || to_absent.round(1).is_ok_and(|refused| refused == 0));
    }
    reader.read_until(|reader| reader.got(&to_reader.name).last() == Some(&to_reader.last()));
    let mut absent = scene.recipient(&scene.absent);
    let mut to_absent = [to_absent];
    scene.settle(&mut to_absent, &mut absent);
    scene.server.stop();
    scene.compare_archives(&[&to_reader, &to_absent[0]], &[&*scene.reader, &*scene.absent]);
    let data = scene.disk.path().join("data");
    for (name, sender) in [(&scene.reader, &to_reader), (&scene.absent, &to_absent[0])] {
        // The log had room all the time.
        let count = archives::of_account(&data, name).len();
        assert!(count >= sender.kept(), "{name} has {count} of {}", sender.kept());
    }
}

/// Sends until everything is refused because the log has failed. Meanwhile streams end whose messages did not reach the
/// disk.
fn send_until_refused(sender: &mut Sender) {
    wait_until("what cannot be kept is refused", || {
        sender.round(ROUND).is_ok_and(|refused| refused == ROUND)
    });
    assert_eq!(sender.conditions(), ["internal-server-error"]);
}

#[test]
fn when_a_disk_fails_for_a_while_nothing_is_acknowledged_and_the_log_is_opened_again() {
    // The disk has more room than there is behind it, as a volume that is provisioned thinly.
    let Some(disk) = Mount::thin(64 << 20, 32 << 20) else { return };
    let mut scene = Scene::on(disk);
    let mut reader = scene.recipient(&scene.reader);
    let mut watcher = scene.watcher();
    let mut senders = [scene.sender(0, &scene.absent), scene.sender(1, &scene.absent)];
    let mut to_reader = scene.sender(2, &scene.reader);
    for sender in &mut senders {
        assert_eq!(sender.round(ROUND).unwrap(), 0);
    }
    assert_eq!(to_reader.round(ROUND).unwrap(), 0);
    reader.read_until(|reader| reader.got(&to_reader.name).len() == to_reader.kept());
    for round in 0..2 {
        let ballast = Ballast::fill(scene.disk.behind().expect("a thin disk has something behind it"));
        senders.iter_mut().for_each(send_until_refused);
        // How many of these it takes is chance. Each is answered, and rosters can be read.
        for contact in 0..20 {
            add_contact(&mut watcher, &format!("contact{round}-{contact}"));
        }
        scene.has_said("the log has failed; no message is acknowledged");
        scene.goes_on(&mut watcher, &mut reader);
        drop(ballast);
        for sender in &mut senders {
            wait_until("messages are taken again", || sender.round(ROUND).is_ok_and(|refused| refused == 0));
        }
        scene.has_said("the log works again");
        scene.goes_on(&mut watcher, &mut reader);
        // The directory as well, whatever the disk did to it.
        wait_until("rosters are written again", || add_contact(&mut watcher, &scene.senders[0]));
    }
    scene.server.kill();
    scene.start_again();
    let mut absent = scene.recipient(&scene.absent);
    scene.settle(&mut senders, &mut absent);
}

#[test]
fn a_disk_that_becomes_read_only_refuses_messages_until_it_is_mounted_anew() {
    let Some(disk) = Mount::ext4(96 << 20) else { return };
    let mut scene = Scene::on(disk);
    let mut reader = scene.recipient(&scene.reader);
    let mut watcher = scene.watcher();
    let mut senders = [scene.sender(0, &scene.absent), scene.sender(1, &scene.absent)];
    for _ in 0..3 {
        senders.iter_mut().for_each(|sender| assert_eq!(sender.round(ROUND).unwrap(), 0));
    }
    // The system refuses what an administrator would do by hand, because the log is open.
    assert!(!scene.disk.remount("ro"), "a disk in use is not remounted");
    assert_eq!(senders[0].round(ROUND).unwrap(), 0);
    let (go, trigger) = (Arc::new(AtomicBool::new(false)), scene.disk.error_trigger());
    let Some(trigger) = trigger else {
        return mount::skip("this system cannot be made to report an error of a file system");
    };
    let waiting = go.clone();
    let thread = std::thread::spawn(move || {
        while !waiting.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        fs::write(trigger, "a test of whimbreld").unwrap();
    });
    go.store(true, Ordering::SeqCst);
    senders.iter_mut().for_each(send_until_refused);
    thread.join().unwrap();
    assert!(fs::write(scene.disk.path().join("file"), "").is_err(), "it is read-only");
    scene.has_said("the file system is read-only");
    scene.goes_on(&mut watcher, &mut reader);
    assert!(!add_contact(&mut watcher, &scene.senders[0]), "nothing can be written");
    // What waits can still be read.
    let mut absent = scene.recipient(&scene.absent);
    let acknowledged = senders[0].kept();
    absent.read_until(|absent| absent.got(&scene.senders[0]).len() >= acknowledged);
    drop(absent);
    scene.server.stop();

    scene.disk.mount_anew();
    scene.start_again();
    let mut absent = scene.recipient(&scene.absent);
    scene.settle(&mut senders, &mut absent);
}

/// Where the tests lie.
fn folder_for_disks() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
