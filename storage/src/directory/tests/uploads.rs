//! Uploads.

use super::*;
use crate::actor::ActorId;
use crate::directory::tables::Table;
use crate::directory::{SlotRefused, Upload, UploadId, UploadLimits, UploadUsage};

const DAY: u64 = 86_400_000;

const NOW: u64 = 20_000 * DAY + 5;

const LIMITS: UploadLimits = UploadLimits {
    account_bytes: 1000,
    account_files: 4,
    day_bytes: 900,
    day_files: 3,
    account_slots: 2,
    all_bytes: 1500,
};

fn id(number: u8) -> UploadId {
    UploadId::new(NOW + u64::from(number), [number; 16])
}

fn slot(local: &str, number: u8, bytes: u64) -> Upload {
    Upload {
        id: id(number),
        actor: ActorId::NOBODY,
        local: local.into(),
        name: format!("{number}.jpg"),
        media: "image/jpeg".into(),
        bytes,
        time_ms: NOW + 600_000 + u64::from(number),
        checksum: 0,
    }
}

/// A file and a slot of an account.
pub(super) fn fill(t: &mut WriteTransaction<'_>, local: &str) -> Result<(), DirectoryError> {
    let number = local.as_bytes()[0];
    for number in [number, number + 1] {
        assert_eq!(t.add_upload_slot(slot(local, number, 10), &LIMITS, NOW)?, Ok(()));
    }
    assert!(t.finish_upload(&id(number), 7, NOW)?);
    Ok(())
}

fn add(directory: &Directory, slot: Upload, now_ms: u64) -> Result<(), SlotRefused> {
    write(directory, move |t| t.add_upload_slot(slot, &LIMITS, now_ms))
}

fn usage(directory: &Directory) -> UploadUsage {
    directory.upload_totals().unwrap().0
}

#[test]
fn ids_are_read_as_they_are_written() {
    let text = id(200).to_string();
    assert_eq!(text.len(), 48);
    assert_eq!(text.parse(), Ok(id(200)));
    assert_eq!(id(200).created_ms(), NOW + 200);
    assert!(id(1) < id(2));
    for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('c', "/")] {
        assert!(wrong.parse::<UploadId>().is_err(), "{wrong}");
    }
}

#[test]
fn a_slot_becomes_a_file_and_a_file_an_erasure() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let actor = directory.account_id("juliet").unwrap().unwrap();
    assert_eq!(add(&directory, slot("juliet", 1, 100), NOW), Ok(()));
    assert_eq!(directory.upload(&id(1)).unwrap(), None);
    let expected = Upload { actor, ..slot("juliet", 1, 100) };
    assert_eq!(directory.upload_slot(&id(1)).unwrap(), Some(expected.clone()));
    assert!(write(&directory, |t| t.finish_upload(&id(1), 17, NOW + 9)));
    assert!(!write(&directory, |t| t.finish_upload(&id(1), 17, NOW + 9)), "once");
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    let file = Upload { time_ms: NOW + 9, checksum: 17, ..expected };
    assert_eq!(directory.upload(&id(1)).unwrap(), Some(file.clone()));
    assert_eq!(directory.upload_slot(&id(1)).unwrap(), None);
    assert!(directory.knows_upload(&id(1)).unwrap() && !directory.knows_upload(&id(2)).unwrap());
    assert_eq!(directory.uploads_of(actor, None, 9).unwrap(), (vec![file.clone()], None));
    assert_eq!(directory.uploads(None, 9).unwrap(), std::slice::from_ref(&file));
    assert!(directory.uploads(Some(&id(1)), 9).unwrap().is_empty());
    let of_day = UploadUsage { day: 20_000, day_files: 1, day_bytes: 100, ..UploadUsage::default() };
    assert_eq!(usage(&directory), UploadUsage { files: 1, bytes: 100, ..of_day });
    assert_eq!(directory.upload_usage(actor).unwrap(), usage(&directory));
    assert_eq!(write(&directory, |t| t.remove_upload(&id(1))), Some(file));
    assert_eq!(write(&directory, |t| t.remove_upload(&id(1))), None);
    assert_eq!(usage(&directory), of_day);
    assert_eq!(directory.upload_erasures(9).unwrap(), [id(1)]);
    write(&directory, |t| t.uploads_erased(&[id(1)]));
    assert_eq!(directory.upload_totals().unwrap().1, 0);
    assert_eq!(rows(&directory, Table::UploadsOfAccounts), 0);
}

#[test]
fn slots_have_their_bounds() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "romeo");
    let finish = |number| assert!(write(&directory, move |t| t.finish_upload(&id(number), 0, NOW)));
    assert_eq!(add(&directory, slot("juliet", 1, 100), NOW), Ok(()));
    assert_eq!(add(&directory, slot("juliet", 2, 100), NOW), Ok(()));
    let third = slot("juliet", 3, 100);
    let of = |number| Err(SlotRefused::Slots { until_ms: slot("juliet", number, 100).time_ms });
    assert_eq!(add(&directory, third.clone(), NOW), of(1), "the oldest ends first");
    finish(1);
    finish(2);
    let day = Err(SlotRefused::Day { ends_ms: 20_001 * DAY });
    assert_eq!(add(&directory, slot("juliet", 3, 701), NOW), day, "bytes of a day");
    assert_eq!(add(&directory, third, NOW), Ok(()));
    finish(3);
    assert_eq!(add(&directory, slot("juliet", 4, 1), NOW), day, "files of a day");
    let account = Err(SlotRefused::Account { oldest_ms: Some(id(1).created_ms()) });
    assert_eq!(add(&directory, slot("juliet", 4, 701), NOW + DAY), account, "bytes of an account");
    assert_eq!(add(&directory, slot("juliet", 4, 600), NOW + DAY), Ok(()));
    assert_eq!(add(&directory, slot("juliet", 5, 1), NOW + DAY), account, "files of an account");
    assert_eq!(add(&directory, slot("romeo", 6, 601), NOW), Err(SlotRefused::All));
    assert_eq!(add(&directory, slot("romeo", 6, 600), NOW), Ok(()));
    let none = run_inline(&directory, Box::new(|t| t.add_upload_slot(slot("paris", 7, 1), &LIMITS, NOW)));
    assert!(matches!(none, Err(DirectoryError::NoAccount { .. })), "{none:?}");
}

#[test]
fn a_slot_is_found_behind_many_files() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    add_account(&directory, "romeo");
    let limits = UploadLimits { account_files: 1000, day_files: 1000, account_slots: 1, ..LIMITS };
    let of = move |local: &str, second: u64| Upload {
        id: UploadId::new(NOW + second, [9; 16]),
        ..slot(local, 0, 1)
    };
    let last = 600;
    write(&directory, move |t| {
        assert_eq!(t.add_upload_slot(of("romeo", 0), &limits, NOW)?, Ok(()));
        for second in 1..last {
            assert_eq!(t.add_upload_slot(of("juliet", second), &limits, NOW)?, Ok(()));
            assert!(t.finish_upload(&of("juliet", second).id, 0, NOW)?);
        }
        let slot = Upload { time_ms: NOW + 77, ..of("juliet", last) };
        t.add_upload_slot(slot, &limits, NOW)
    })
    .unwrap();
    let refused = write(&directory, move |t| t.add_upload_slot(of("juliet", last + 1), &limits, NOW));
    assert_eq!(refused, Err(SlotRefused::Slots { until_ms: NOW + 77 }));
    let actor = directory.account_id("juliet").unwrap().unwrap();
    let (mut found, mut after) = (0, None);
    loop {
        let (files, next) = directory.uploads_of(actor, after.as_ref(), 100).unwrap();
        found += files.len();
        assert!(files.iter().all(|file| file.local == "juliet"));
        after = next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found as u64, last - 1, "page by page");
}

#[test]
fn what_is_over_ends_and_leaves_erasures() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    write(&directory, |t| fill(t, "juliet"));
    let number = b'j';
    assert!(!directory.uploads_end(NOW, NOW).unwrap());
    assert_eq!(write(&directory, |t| t.end_uploads(NOW, NOW, 9)), (0, 0));
    assert!(directory.uploads_end(NOW + DAY, NOW).unwrap());
    assert_eq!(write(&directory, |t| t.end_uploads(NOW + DAY, NOW, 9)), (1, 0));
    assert!(!write(&directory, move |t| t.finish_upload(&id(number + 1), 0, NOW)), "it came too late");
    assert_eq!(write(&directory, |t| t.end_uploads(NOW + DAY, NOW + DAY, 9)), (0, 1));
    assert_eq!(directory.upload_erasures(9).unwrap(), [id(number), id(number + 1)]);
    write(&directory, move |t| t.uploads_erased(&[id(number + 1)]));
    assert!(
        !write(&directory, move |t| t.finish_upload(&id(number + 1), 0, NOW)),
        "it comes when all is over"
    );
    assert_eq!(
        directory.upload_erasures(9).unwrap(),
        [id(number), id(number + 1)],
        "its bytes are removed again"
    );
    let left = usage(&directory);
    assert_eq!((left.files, left.bytes, left.slots, left.slot_bytes), (0, 0, 0, 0));
}
