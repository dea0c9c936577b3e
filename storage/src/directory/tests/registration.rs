//! Registrations under way.

use super::*;

fn pin(id: u64) -> PendingPin {
    PendingPin {
        id,
        device: [1; 16],
        salt: [2; 16],
        hash: [3; 32],
        requested_ms: 10,
        expires_ms: 20,
        tries_left: 5,
    }
}

#[test]
fn what_is_remembered_of_a_number_and_of_quotas_survives_a_restart() {
    let (folder, directory) = new_directory();
    let with_pin = NumberState { pin: Some(pin(7)), resend_at_ms: 11, ..NumberState::default() };
    let without = NumberState {
        pin: None,
        superseded: Some([9; 16]),
        resend_at_ms: 1,
        strikes: 3,
        locked_until_ms: 4,
        forget_at_ms: u64::MAX,
    };
    let kept = (with_pin.clone(), without.clone());
    write(&directory, move |t| {
        t.set_number_state("4915112345678", &kept.0)?;
        t.set_number_state("4915112345679", &kept.1)?;
        t.set_quota(&[5; 17], Quota { until_ms: 99, count: 12 })
    });
    drop(directory);
    let directory = open(&folder.path().join("directory"));
    assert_eq!(directory.number_state("4915112345678").unwrap(), Some(with_pin.clone()));
    assert_eq!(directory.number_state("491511234567").unwrap(), None);
    let all = directory.number_states(None, 10).unwrap();
    assert_eq!(all, [("4915112345678".into(), with_pin), ("4915112345679".into(), without)]);
    assert_eq!(directory.number_states(Some("4915112345678"), 10).unwrap().len(), 1);
    assert_eq!(directory.quota(&[5; 17]).unwrap(), Quota { until_ms: 99, count: 12 });
    assert_eq!(directory.quota(&[6; 17]).unwrap(), Quota::default());
}

#[test]
fn what_no_longer_matters_is_forgotten() {
    let (_folder, directory) = new_directory();
    write(&directory, |t| {
        for n in 0..10_u64 {
            let state = NumberState { forget_at_ms: n, ..NumberState::default() };
            t.set_number_state(&format!("49{n}"), &state)?;
            t.set_quota(&[u8::try_from(n).expect("small"); 17], Quota { until_ms: n, count: 1 })?;
        }
        Ok(())
    });
    assert_eq!(write(&directory, |t| t.forget_registrations(4, 3)), 6);
    assert_eq!(write(&directory, |t| t.forget_registrations(4, 100)), 4);
    assert_eq!(rows(&directory, tables::Table::Registrations), 5);
    assert_eq!(rows(&directory, tables::Table::Quotas), 5);
}

#[test]
fn a_directory_of_a_release_without_registrations_gets_their_tables() {
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    drop(directory);
    let path = folder.path().join("directory");
    {
        // SAFETY: nothing else opens this folder.
        let env = unsafe { heed::EnvOpenOptions::new().max_dbs(16).open(&path).unwrap() };
        let mut txn = env.write_txn().unwrap();
        // Tables are rows of the unnamed one.
        let main: heed::Database<heed::types::Bytes, heed::types::Bytes> =
            env.open_database(&txn, None).unwrap().unwrap();
        let names: Vec<Vec<u8>> = main.iter(&txn).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        assert!(names.iter().any(|name| name == b"quotas"), "{names:?}");
        for name in ["registrations", "quotas"] {
            let table: heed::Database<heed::types::Bytes, heed::types::Bytes> =
                env.open_database(&txn, Some(name)).unwrap().unwrap();
            // SAFETY: the handle is not used again.
            unsafe { table.remove(&mut txn).unwrap() };
        }
        txn.commit().unwrap();
    }
    let directory = open(&path);
    assert!(directory.account_exists("juliet").unwrap());
    write(&directory, |t| t.set_quota(&[1; 17], Quota { until_ms: 1, count: 1 }));
}

#[test]
fn the_stamp_of_credentials_changes_with_them() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let (id, before) = directory.account_login("juliet").unwrap().unwrap();
    assert_eq!(before, CredentialsStamp::of(&directory.credentials("juliet").unwrap().unwrap()));
    assert!(write(&directory, |t| t.set_credentials("juliet", &keys("other"))));
    let (same, after) = directory.account_login("juliet").unwrap().unwrap();
    assert_eq!(id, same);
    assert_ne!(before, after);
    assert_eq!(directory.account_login("romeo").unwrap(), None);
}
