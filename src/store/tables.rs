//! The tables, version after version: a new file is made by taking every step, so that it is the same as
//! one that was migrated. What a step says is never changed once it is out.
//!
//! `attempts` is for detail: by minute, device and destination address, for a report names addresses; the
//! group is the address cut short. Of days that are over it is in `packed`. `minutes` is for the whole: what
//! is counted there has a row whether its device is known or not. `days` and `day_totals` are what is left
//! of both later; `blocks` has `days` once more, by 32 days, for what is asked of a year.

use rusqlite::{Connection, TransactionBehavior};

/// `PRAGMA application_id`: "SMTW".
pub(super) const APPLICATION: i64 = 0x534d_5457;
/// `PRAGMA user_version` of a file that all steps were taken of.
pub(super) const VERSION: i64 = 2;
/// Name in `marks` of the minute before which detail counts in `days` alone.
pub(super) const SUMMED: &str = "summed";
/// Name in `marks` of the day before which `blocks` lack days that were deleted.
pub(super) const BLOCKS: &str = "blocks";
/// Name in `marks` of how many translations were dropped because there were too many.
pub(super) const DROPPED: &str = "translations dropped";

/// From each version to the next.
const STEPS: [&str; 2] = [FIRST, SECOND];

const FIRST: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE TABLE devices (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    mac TEXT,
    hostname TEXT,
    interface TEXT,
    basis TEXT NOT NULL,
    addresses TEXT NOT NULL,
    is_shared INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE attempts (
    minute INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    destination BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    PRIMARY KEY (minute, device, direction, port, destination)
) STRICT, WITHOUT ROWID;
CREATE TABLE minutes (
    minute INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    PRIMARY KEY (minute, direction, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (id),
    detector TEXT NOT NULL,
    score REAL NOT NULL,
    threshold REAL NOT NULL,
    at INTEGER NOT NULL,
    at_attempt INTEGER NOT NULL,
    took INTEGER NOT NULL,
    within INTEGER NOT NULL
) STRICT;
CREATE INDEX findings_by_time ON findings (at);
CREATE TABLE unseen (
    minute INTEGER NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (minute, source, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    notice TEXT NOT NULL
) STRICT;
";

/// Outcomes, in the order of [`Ended`](super::changes::Ended); bytes are 0 where nobody told them.
///
/// A row of `packed` has so many rows of one day and device, all of before the minute `until`, as
/// [`packed`](super::packed) puts them; a row of `blocks` stands for so many of `days`, and is of the 32
/// days from `day` on. `contacts` has the first attempt of a device to a group to the microsecond, for a replay of the
/// detectors. A row of `sightings` is a stretch of time without an hour of silence. `decisions` is for
/// what is done about a device. `translations` has the tuple inside, and what of it was another outside.
const SECOND: &str = "
ALTER TABLE attempts ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN completed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN received INTEGER NOT NULL DEFAULT 0;
ALTER TABLE findings ADD COLUMN new_groups INTEGER NOT NULL DEFAULT 0;
ALTER TABLE findings ADD COLUMN mail_lookups INTEGER NOT NULL DEFAULT 0;
ALTER TABLE findings ADD COLUMN pace TEXT;
ALTER TABLE findings ADD COLUMN normal_per_day REAL;
CREATE TABLE contacts (
    device INTEGER NOT NULL REFERENCES devices (id),
    direction INTEGER NOT NULL,
    prefix BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, direction, prefix)
) STRICT, WITHOUT ROWID;
INSERT INTO contacts (device, direction, prefix, first, last)
    SELECT device, direction, substr(destination, 1, iif(length(destination) = 4, 3, 6)), min(first), max(last)
    FROM attempts WHERE attempts > 0 GROUP BY 1, 2, 3;
CREATE TABLE packed (
    day INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    part INTEGER NOT NULL,
    until INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    details BLOB NOT NULL,
    PRIMARY KEY (day, device, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE days (
    day INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    destinations INTEGER NOT NULL,
    groups INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    unreachable INTEGER NOT NULL,
    unanswered INTEGER NOT NULL,
    held INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (day, device, direction, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    day INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    destinations INTEGER NOT NULL,
    groups INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    unreachable INTEGER NOT NULL,
    unanswered INTEGER NOT NULL,
    held INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    received INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    PRIMARY KEY (day, device, direction, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE day_totals (
    day INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    syns INTEGER NOT NULL,
    PRIMARY KEY (day, direction, port)
) STRICT, WITHOUT ROWID;
CREATE TABLE states (
    device INTEGER PRIMARY KEY REFERENCES devices (id),
    state TEXT NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (id),
    decision TEXT NOT NULL,
    because TEXT NOT NULL
) STRICT;
CREATE TABLE sightings (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices (id),
    interface BLOB,
    address BLOB NOT NULL,
    mac BLOB,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE INDEX sightings_by_address ON sightings (address, device, last);
CREATE INDEX sightings_by_time ON sightings (last);
CREATE TABLE translations (
    outside BLOB NOT NULL,
    outside_port INTEGER NOT NULL,
    first INTEGER NOT NULL,
    source BLOB NOT NULL,
    source_port INTEGER NOT NULL,
    destination BLOB NOT NULL,
    destination_port INTEGER NOT NULL,
    device INTEGER REFERENCES devices (id),
    last INTEGER NOT NULL,
    outside_destination BLOB,
    outside_destination_port INTEGER,
    PRIMARY KEY (outside, outside_port, first, source, source_port, destination, destination_port)
) STRICT, WITHOUT ROWID;
CREATE INDEX translations_by_time ON translations (last, first);
CREATE TABLE positions (
    source TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    verb TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Takes the steps from version `from` on, in one transaction: it is as it was where one fails. 0 is an
/// empty file.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    if from == 0 {
        // Of a file that has tables it could be changed only by writing all of it anew.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
