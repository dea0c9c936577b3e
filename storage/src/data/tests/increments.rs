//! Backups of a place, one after another.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::directory::{Upload, UploadId, UploadLimits, WriteTransaction};
use crate::uploads::{ObjectPlace, UploadFiles};

/// Bytes of a text that waits; some sixty fill a segment.
const TEXT: usize = 1000;

/// A data directory that is served and backed up.
struct Scene {
    folder: TempDir,
    served: Served,
    juliet: ActorId,
    sent: usize,
    now_ms: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("data")).expect("a folder");
        let served = serve(&folder.path().join("data")).expect("a new data directory");
        let juliet = served.add("juliet");
        Self { folder, served, juliet, sent: 0, now_ms: 1_795_889_516_000 }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("place")
    }

    fn say(&mut self, texts: usize) {
        for _ in 0..texts {
            let text = format!("{:0TEXT$}", self.sent);
            self.served.append(self.juliet, text.as_bytes());
            self.sent += 1;
            self.upkeep();
        }
    }

    fn upkeep(&mut self) {
        let log = &mut self.served.opened.logs[0];
        log.maintain(1);
        log.commit_now().expect("it is committed");
        log.keep_files_now();
    }

    fn try_back_up(&mut self, keep: Option<usize>) -> Result<Increment, DataError> {
        self.now_ms += 60_000;
        let place = Place { folder: &self.place(), now_ms: self.now_ms, keep };
        backup_into(&self.data(), &self.served.directory, &place, &mut Pace::new(None))
    }

    fn back_up(&mut self) -> Increment {
        let made = self.try_back_up(None).expect("it is made");
        verify(&made.folder).expect("it is whole");
        assert_eq!(
            segments(&made.folder),
            up_to_the_end(&segments(&self.data()), &made),
            "as the server has it"
        );
        made
    }

    /// What waits in a backup, once it is served where nobody else has its files.
    fn restored(&self, backup: &Path) -> usize {
        let to = self.folder.path().join("restored");
        copy_all(backup, &to);
        let served = serve(&to).expect("it can be served");
        assert_eq!(served.reconciled, Reconciled::default());
        let juliet = served.directory.account_id("juliet").expect("it reads").expect("she is there");
        let waiting = served.waiting(juliet);
        served.stop();
        assert!(!to.join("backup-manifest").exists(), "it is no backup any more");
        fs::remove_dir_all(&to).expect("it is ours");
        waiting
    }
}

fn verify(backup: &Path) -> Result<Whole, DataError> {
    verify_backup(backup, &open_directory(backup))
}

/// Names and contents of segments.
fn segments(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let folder = data.join("log/generation-1/0");
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let all = entries.map(|entry| {
        (entry.file_name().into_string().expect("UTF-8"), fs::read(entry.path()).expect("it reads"))
    });
    all.filter(|(name, _)| name.ends_with(".seg")).collect()
}

/// The segments of a log as a backup has them: without spare ones, and zero from its end on.
fn up_to_the_end(all: &BTreeMap<String, Vec<u8>>, made: &Increment) -> BTreeMap<String, Vec<u8>> {
    let end = made.done.ends[0].0;
    let base = |name: &str| u64::from_str_radix(&name[..16], 16).expect("a base");
    let mut taken: BTreeMap<_, _> =
        all.iter().filter(|(name, _)| base(name) < end).map(|(n, b)| (n.clone(), b.clone())).collect();
    if let Some((name, bytes)) = taken.iter_mut().next_back() {
        let used = (end - base(name)) as usize;
        bytes[used..].fill(0);
    }
    taken
}

fn first_segment(data: &Path) -> PathBuf {
    let name = segments(data).into_keys().next().expect("there is one");
    data.join("log/generation-1/0").join(name)
}

#[test]
fn what_has_not_changed_is_shared_and_each_backup_is_whole_by_itself() {
    let mut scene = Scene::new();
    scene.say(200);
    let first = scene.back_up();
    assert_eq!((first.done.linked, first.done.segments >= 3), (0, true), "{first:?}");
    let none = scene.back_up();
    assert_eq!((none.done.linked, none.done.segments), (first.done.segments - 1, 1), "{none:?}");
    scene.say(200);
    scene.served.add("romeo");
    let third = scene.back_up();
    assert_eq!(third.done.linked, first.done.segments - 1, "{third:?}");
    assert!(third.done.segments >= 3 && third.done.bytes < first.done.bytes * 2, "{third:?}");
    let number = |made: &Increment| fs::metadata(first_segment(&made.folder)).expect("it is there").ino();
    assert_eq!(number(&first), number(&third), "one file");
    for (made, waiting) in [(&first, 200), (&none, 200), (&third, 400)] {
        assert_eq!(scene.restored(&made.folder), waiting);
    }
    let error = serve(&first.folder).err().expect("it would change the others");
    assert!(matches!(error, DataError::Shared { .. }), "{error}");
    // Nor when nobody can tell.
    let manifest = first.folder.join("backup-manifest");
    let mut bytes = fs::read(&manifest).expect("it reads");
    bytes[30] ^= 1;
    fs::write(&manifest, bytes).expect("it is ours");
    let error = serve(&first.folder).err().expect("it may be shared");
    assert!(matches!(error, DataError::NotWhole { .. }), "{error}");
    assert!(fs::read_dir(scene.place()).expect("a folder").count() == 3, "nothing else is left there");
}

#[test]
fn erased_texts_are_in_no_new_backup_and_older_ones_stay_as_they_were() {
    let mut scene = Scene::new();
    scene.say(1);
    let at = scene.served.opened.logs[0].appended();
    scene.say(200);
    let first = scene.back_up();
    let name = first_segment(&scene.data());
    let base = name.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
    let base = u64::from_str_radix(base, 16).expect("a base");
    let log = &mut scene.served.opened.logs[0];
    assert!(log.erase_texts(crate::log::Position(base), vec![at]));
    scene.upkeep();
    let erased = scene.served.opened.logs[0].texts_erased().expect("it is done");
    assert_eq!(erased.expect("it is written"), 1);
    let second = scene.back_up();
    assert_eq!(second.done.linked, first.done.segments - 2, "all sealed but one: {second:?}");
    let text = format!("{:0TEXT$}", 1);
    let has = |backup: &Path| {
        segments(backup).values().any(|bytes| bytes.windows(TEXT).any(|window| window == text.as_bytes()))
    };
    assert_eq!((has(&scene.data()), has(&first.folder), has(&second.folder)), (false, true, false));
    verify(&first.folder).expect("it is as it was");
    assert_eq!(scene.restored(&first.folder), 201);
}

#[test]
fn a_segment_that_was_rewritten_or_replaced_is_copied_anew_and_one_that_is_gone_goes() {
    let mut scene = Scene::new();
    scene.say(300);
    let first = scene.back_up();
    // In place; the checksum of the record does not matter here.
    let rewritten = first_segment(&scene.data());
    let mut bytes = fs::read(&rewritten).expect("it reads");
    bytes[500] ^= 1;
    let file = fs::OpenOptions::new().write(true).open(&rewritten).expect("it is ours");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("it is written");
    drop(file);
    let second = scene.back_up();
    assert_eq!(second.done.linked, first.done.linked + first.done.segments - 2, "all sealed but one");
    // By another file of the same length and time.
    let times = fs::metadata(&rewritten).expect("it is there").modified().expect("a time");
    let aside = scene.folder.path().join("aside");
    bytes[500] ^= 1;
    fs::write(&aside, &bytes).expect("it is ours");
    fs::File::options()
        .write(true)
        .open(&aside)
        .and_then(|file| file.set_modified(times))
        .expect("it is ours");
    fs::rename(&aside, &rewritten).expect("it is ours");
    let third = scene.back_up();
    assert_eq!(third.done.linked, second.done.linked);
    assert_eq!(scene.restored(&third.folder), 300);
    // Compaction lets go of what nobody waits for.
    let before = segments(&scene.data()).len();
    for sequence in scene.served.opened.logs[0].waiting(scene.juliet).take(290).collect::<Vec<_>>() {
        scene.served.opened.logs[0].trim(scene.juliet, sequence);
    }
    (0..100).for_each(|_| scene.upkeep());
    assert!(segments(&scene.data()).len() < before, "segments go");
    let last = scene.back_up();
    assert!(last.done.linked < third.done.linked, "{last:?}");
    assert_eq!((scene.restored(&last.folder), scene.restored(&first.folder) <= 300), (10, true));
}

#[test]
fn an_interrupted_backup_harms_none_and_the_next_goes_on_with_it() {
    let mut scene = Scene::new();
    scene.say(300);
    // Nothing that can be read: the copy ends there, as if the disk had failed.
    let folder = scene.data().join("log/generation-1/0");
    let third = segments(&scene.data()).into_keys().nth(2).expect("there are more");
    let third = u64::from_str_radix(&third[..16], 16).expect("a base");
    let broken = folder.join(format!("{:016x}.seg", third + 4096));
    fs::create_dir(&broken).expect("it is ours");
    for _ in 0..2 {
        scene.try_back_up(None).expect_err("it cannot be read");
        let names: Vec<_> = fs::read_dir(scene.place()).expect("a folder").collect();
        assert!(names.len() <= 2, "no backup: {names:?}");
    }
    let unfinished = scene.place().join("unfinished");
    let error = serve(&unfinished).err().expect("it is not whole");
    assert!(matches!(error, DataError::Unfinished { .. }), "{error}");
    fs::remove_dir(&broken).expect("it is ours");
    let made = scene.back_up();
    assert_eq!(made.done.linked, 3, "those that were copied before");
    assert_eq!(scene.restored(&made.folder), 300);
    // The interrupted one has gone, so the files are this one's alone, and it can be served where it is.
    assert_eq!(fs::read_dir(scene.place()).expect("a folder").count(), 1);
    examine(&made.folder).expect("it shares nothing");

    // Another had everything but its name.
    let unnamed = scene.back_up();
    fs::rename(&unnamed.folder, &unfinished).expect("it is ours");
    fs::remove_dir_all(&made.folder).expect("it is ours");
    let made = scene.back_up();
    assert_eq!((made.done.linked, made.done.segments), (unnamed.done.linked, 1), "{made:?}");

    fs::create_dir(&broken).expect("it is ours");
    scene.try_back_up(None).expect_err("it cannot be read");
    verify(&made.folder).expect("the one before is as it was");
}

#[test]
fn the_newest_are_kept() {
    let mut scene = Scene::new();
    scene.say(100);
    let mut made = Vec::new();
    for (keep, present, removed) in
        [(None, 1, 0), (Some(3), 2, 0), (Some(3), 3, 0), (Some(2), 2, 2), (Some(0), 1, 2)]
    {
        scene.say(70);
        let one = scene.try_back_up(keep).expect("it is made");
        assert_eq!((fs::read_dir(scene.place()).expect("a folder").count(), one.removed), (present, removed));
        verify(&one.folder).expect("it is whole");
        made.push(one.folder);
    }
    assert_eq!(made[0].file_name().expect("a name"), "000001-20261128T181256Z");
    assert_eq!(scene.restored(made.last().expect("some")), scene.sent);
}

#[test]
fn nothing_is_removed_that_is_no_backup() {
    let mut scene = Scene::new();
    scene.say(10);
    let file = |folder: &str| scene.place().join(folder).join("letter");
    for folder in ["unfinished", "interrupted"] {
        let letter = file(folder);
        fs::create_dir_all(letter.parent().expect("a folder")).expect("a folder");
        fs::write(&letter, "dear").expect("a file");
        let place = Place { folder: &scene.place(), now_ms: 0, keep: Some(1) };
        let refused = backup_into(&scene.data(), &scene.served.directory, &place, &mut Pace::new(None));
        let error = refused.expect_err("somebody's folder").to_string();
        assert!(error.contains(folder) && letter.exists(), "{error}");
        fs::remove_dir_all(letter.parent().expect("a folder")).expect("it is ours");
    }
    let made: Vec<PathBuf> = (0..3).map(|_| scene.try_back_up(None).expect("it is made").folder).collect();
    // The first was served where it lies, which takes its manifest; the second has become somebody's.
    fs::remove_file(made[0].join("backup-manifest")).expect("it is ours");
    fs::write(made[1].join("letter"), "dear").expect("a file");
    let last = scene.try_back_up(Some(1)).expect("it is made");
    assert_eq!(last.removed, 1, "the third");
    let is_there: Vec<bool> = made.iter().map(|backup| backup.exists()).collect();
    assert_eq!(is_there, [true, true, false]);
}

#[test]
fn a_place_has_backups_of_one_data_set_and_nothing_else() {
    let mut scene = Scene::new();
    scene.say(10);
    let refused = |scene: &mut Scene, why: &str| {
        let error = scene.try_back_up(None).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    };
    fs::create_dir(scene.place()).expect("a folder");
    fs::write(scene.place().join("letter"), "dear").expect("a file");
    refused(&mut scene, "letter");
    fs::remove_file(scene.place().join("letter")).expect("it is ours");
    let plain = scene.place().join("directory");
    fs::create_dir(&plain).expect("a folder");
    refused(&mut scene, "a folder of its own");
    fs::remove_dir(&plain).expect("it is ours");
    let lock = fs::File::open(scene.place()).expect("a folder");
    lock.try_lock().expect("nobody has it");
    refused(&mut scene, "another backup");
    drop(lock);
    scene.back_up();
    let (_other, data, _) = with_messages();
    let place = Place { folder: &scene.place(), now_ms: 0, keep: None };
    let error = backup_into(&data, &open_directory(&data), &place, &mut Pace::new(None));
    assert!(error.expect_err("other data").to_string().contains("other data"));
    let inside = Place { folder: &scene.data().join("backups"), ..place };
    let error = backup_into(&scene.data(), &scene.served.directory, &inside, &mut Pace::new(None));
    assert!(error.expect_err("inside").to_string().contains("in the data directory"));
    scene.back_up();
}

#[test]
fn parts_of_two_backups_are_not_taken_for_one() {
    let mut scene = Scene::new();
    scene.say(200);
    let first = scene.back_up().folder;
    scene.served.add("romeo");
    scene.say(200);
    let second = scene.back_up().folder;
    let broken = |change: &dyn Fn(&Path), what: &str| {
        let copy = scene.folder.path().join("changed");
        copy_all(&second, &copy);
        verify(&copy).expect("a copy is as good");
        change(&copy);
        let error = verify(&copy).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        fs::remove_dir_all(&copy).expect("it is ours");
    };
    let data = "directory/data.mdb";
    let take = |name: &str, copy: &Path| {
        fs::copy(first.join(name), copy.join(name)).expect("a file");
    };
    broken(&|copy| take(data, copy), "other contents");
    let log = |copy: &Path| {
        fs::remove_dir_all(copy.join(LOG)).expect("it is ours");
        copy_all(&first.join(LOG), &copy.join(LOG));
    };
    broken(&log, ".seg");
    broken(&|copy| fs::remove_file(first_segment(copy)).expect("it is ours"), "No such file");
    broken(
        &|copy| {
            let more = copy.join("log/generation-1/0/0000000070000000.seg");
            fs::write(more, "x").expect("a file");
        },
        "does not belong",
    );
    broken(
        &|copy| {
            let mut bytes = fs::read(first_segment(copy)).expect("it reads");
            bytes[700] ^= 1;
            fs::write(first_segment(copy), bytes).expect("it is ours");
        },
        "other contents",
    );
    broken(&|copy| fs::remove_file(copy.join("backup-manifest")).expect("it is ours"), "no backup-manifest");
    broken(&|copy| take("backup-manifest", copy), "other contents");
}

#[test]
fn an_index_that_reaches_beyond_the_log_is_found() {
    let mut scene = Scene::new();
    scene.say(10);
    let made = scene.back_up().folder;
    let manifest = super::super::manifest::Manifest::read(&made).expect("it reads").expect("it is there");
    let (log, end) = manifest.ends[0];
    for (position, is_whole) in [(end, true), (end + 8, false)] {
        let copy = scene.folder.path().join("changed");
        copy_all(&made, &copy);
        let directory = open_directory(&copy);
        let changes = crate::archive::Changes {
            journal: log,
            gone_before: Some(crate::log::Position(0)),
            indexed_to: crate::log::Position(position),
            ..Default::default()
        };
        let shares = directory::Shares::default();
        run_inline(&directory, Box::new(move |t| t.apply_archive(&changes, shares))).expect("it is written");
        // As if it had been copied so.
        let bytes = fs::read(copy.join("directory/data.mdb")).expect("it reads");
        let file = directory::CopiedFile { bytes: bytes.len() as u64, checksum: crc32c::crc32c(&bytes) };
        let changed = super::super::manifest::Manifest { directory: file, ..manifest.clone() };
        fs::remove_file(copy.join("backup-manifest")).expect("it is ours");
        fs::write(copy.join("backup-manifest.partial"), "").expect("a file");
        changed.write(&copy).expect("it is written");
        let found = verify_backup(&copy, &directory);
        assert_eq!(found.is_ok(), is_whole, "{found:?}");
        drop(directory);
        fs::remove_dir_all(&copy).expect("it is ours");
    }
}

/// A file of juliet's.
fn upload(scene: &Scene, number: u8, bytes: &'static [u8]) -> UploadId {
    let id = UploadId::new(u64::from(number), [number; 16]);
    let files = UploadFiles::of(&scene.data());
    files.prepare().expect("folders are made");
    let mut incoming = files.begin(&id).expect("it is begun");
    incoming.write(bytes).expect("it is written");
    let checksum = incoming.finish().expect("it is on the disk");
    let slot = Upload {
        id,
        actor: ActorId::NOBODY,
        local: "juliet".into(),
        name: "a".into(),
        media: String::new(),
        bytes: bytes.len() as u64,
        time_ms: u64::MAX,
        checksum: 0,
    };
    let most = u64::MAX;
    let limits = UploadLimits {
        account_bytes: most,
        account_files: most,
        day_bytes: most,
        day_files: most,
        account_slots: most,
        all_bytes: most,
    };
    let job = move |t: &mut WriteTransaction<'_>| {
        assert_eq!(t.add_upload_slot(slot, &limits, 1)?, Ok(()));
        t.finish_upload(&id, checksum, 1)
    };
    assert!(run_inline(&scene.served.directory, Box::new(job)).expect("it is written"));
    id
}

#[test]
fn uploaded_files_are_shared_by_backups_and_compared() {
    let mut scene = Scene::new();
    let old = upload(&scene, 1, b"old");
    let first = scene.back_up();
    assert_eq!((first.done.uploads.files, first.done.uploads.linked), (1, 0));
    let new = upload(&scene, 2, b"newer");
    let second = scene.back_up();
    assert_eq!((second.done.uploads.files, second.done.uploads.linked), (1, 1), "{second:?}");
    let path = |id: &UploadId| UploadFiles::of(&second.folder).path(id);
    assert_eq!(fs::read(path(&old)).expect("it is there"), b"old");
    assert_eq!(fs::read(path(&new)).expect("it is there"), b"newer");
    scene.restored(&second.folder);
    fs::write(path(&new), b"other").expect("it is ours");
    let error = verify(&second.folder).expect_err("its contents are others");
    assert!(error.to_string().contains(&new.to_string()), "{error}");
    fs::remove_file(path(&new)).expect("it is ours");
    assert!(verify(&second.folder).is_err(), "it is missing");
}

#[test]
fn objects_are_listed_and_the_list_is_compared() {
    let mut scene = Scene::new();
    let file = upload(&scene, 1, b"on the disk");
    let object = upload(&scene, 2, b"in the store");
    let files = UploadFiles::of(&scene.data());
    files.remove(&object).expect("it is moved");
    let missing = scene.try_back_up(None).expect("it is made");
    assert!(verify(&missing.folder).is_err(), "without a store, it is missing");
    let place =
        ObjectPlace { endpoint: "https://s3.example.org".into(), bucket: "files".into(), prefix: "p".into() };
    files.note_place(Some(&place)).expect("it is noted");
    let made = scene.back_up();
    assert_eq!(
        (made.done.uploads.linked, made.done.uploads.objects, made.done.uploads.objects_bytes),
        (1, 1, 12)
    );
    assert_eq!(verify(&made.folder).expect("it is whole").objects, 1);
    let copy = UploadFiles::of(&made.folder);
    assert_eq!(copy.place().expect("it is read"), Some(place));
    let list = made.folder.join("uploads/objects");
    let text = fs::read_to_string(&list).expect("it is there");
    assert!(text.contains(&format!("object {object} 12 ")) && !text.contains(&file.to_string()), "{text}");
    fs::write(&list, text.replace(" 12 ", " 13 ")).expect("it is ours");
    verify(&made.folder).expect_err("it says something else");
    let of_another_time: String =
        text.lines().filter(|line| !line.starts_with("object")).map(|line| format!("{line}\n")).collect();
    fs::write(&list, of_another_time).expect("it is ours");
    verify(&made.folder).expect_err("its checksum is another");
    fs::remove_file(&list).expect("it is ours");
    verify(&made.folder).expect_err("nobody knows where the object is");
    fs::write(&list, text).expect("it is ours");
    scene.restored(&made.folder);
}
