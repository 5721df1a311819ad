//! From the first version's file to this one's.

use super::*;
use crate::store::tables::VERSION;

/// A history as the first version wrote it.
fn first_version(folder: &Path) {
    Connection::open(folder.join(FILE))
        .unwrap()
        .execute_batch(include_str!("version-1.sql"))
        .unwrap();
}

fn shape(folder: &Path) -> Vec<String> {
    Connection::open(folder.join(FILE))
        .unwrap()
        .prepare(
            "SELECT m.name || '.' || c.name || ' ' || c.type || c.'notnull' || c.pk || coalesce(c.dflt_value, '') \
             FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' \
             UNION SELECT 'index ' || name FROM sqlite_schema WHERE type = 'index' ORDER BY 1",
        )
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn version(folder: &Path) -> i64 {
    Connection::open(folder.join(FILE))
        .unwrap()
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn an_earlier_file_is_migrated_with_all_that_is_in_it() {
    let folder = folder();
    first_version(folder.path());
    let read = Past::read(folder.path(), &asked());
    assert!(matches!(read, Err(StoreError::Older { found: 1, .. })));
    let writer = Writer::start(folder.path(), START, Retention::default()).unwrap();
    let told = writer.troubles().unwrap();
    assert!(
        told.contains("migrated from schema version 1 to 2"),
        "{told}"
    );
    assert_eq!(writer.finish(), (Unwritten::default(), Vec::new()));
    assert_eq!(version(folder.path()), VERSION);

    let mut past = Past::read(folder.path(), &asked()).unwrap();
    past.devices.sort_by(|a, b| a.id.cmp(&b.id));
    let counts: Vec<_> = past
        .devices
        .iter()
        .map(|it| {
            (
                it.attempts,
                it.syns,
                it.destinations.addresses,
                it.findings.len(),
            )
        })
        .collect();
    assert_eq!(counts, [(3, 5, 2, 1), (1, 1, 1, 0)]);
    assert_eq!(
        (past.matched, past.lost[0].events, past.unreadable),
        (6, 7, 0)
    );
    let contacts: Vec<(i64, Vec<u8>, i64)> = Connection::open(folder.path().join(FILE))
        .unwrap()
        .prepare("SELECT device, prefix, first FROM contacts ORDER BY device")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let at = |micros: i64| START.as_micros() + micros;
    assert_eq!(
        contacts,
        [
            (1, vec![203, 0, 113], at(1_000_000)),
            (2, vec![0x20, 1, 0x0d, 0xb8, 0, 1], at(2_500_000)),
        ]
    );

    let new = super::folder();
    Writer::start(new.path(), START, Retention::default())
        .unwrap()
        .finish();
    assert_eq!(shape(folder.path()), shape(new.path()));
    // And it is written on.
    watch(folder.path(), traffic::syns(1, START, 100));
    assert!(is_whole(folder.path()));
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    let folder = folder();
    first_version(folder.path());
    // In the way of the last step's tables.
    Connection::open(folder.path().join(FILE))
        .unwrap()
        .execute_batch("CREATE TABLE marks (other)")
        .unwrap();
    let before = shape(folder.path());
    let error = Writer::start(folder.path(), START, Retention::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("cannot be migrated") && text.contains("is as it was"),
        "{text}"
    );
    assert_eq!((version(folder.path()), shape(folder.path())), (1, before));
    assert_eq!(
        super::retention::total(folder.path(), "SELECT count(*) FROM attempts"),
        4
    );
    assert!(is_whole(folder.path()));
}
