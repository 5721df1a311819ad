//! Forgetting a device: everything that the history says of it goes, in one transaction.

use std::net::IpAddr;
use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::rows::Octets;
use super::who::note_audit;
use super::{FILE, StoreError, schema};
use crate::model::{Mac, Timestamp};

/// Candidates named where a name is ambiguous.
const SHOWN: usize = 16;
/// What has rows by device.
const TABLES: [&str; 11] = [
    "attempts",
    "packed",
    "days",
    "blocks",
    "contacts",
    "findings",
    "states",
    "decisions",
    "sightings",
    "translations",
    "devices",
];

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// The device's id in reports, as it was.
    pub(crate) device: String,
    /// Rows that went, by what they were.
    pub(crate) rows: Vec<(&'static str, u64)>,
    /// Whether nothing of it is left in the file's log either; otherwise whoever writes sees to that
    /// within minutes.
    pub(crate) is_settled: bool,
}

impl Forgotten {
    /// Rows that went in all.
    pub(crate) fn count(&self) -> u64 {
        self.rows.iter().map(|(_, rows)| rows).sum()
    }
}

/// Deletes all that the history in `folder` says of a device, also while it is written: its id, its MAC,
/// or an address that it alone held. It is noted at `now` that `who` did it, not of whom.
///
/// Counts of everybody (by minute, by day) stay. A running watch that sees the device goes on with what
/// it remembers of it.
pub(crate) fn forget(
    folder: &Path,
    name: &str,
    now: Timestamp,
    who: &str,
) -> Result<Forgotten, StoreError> {
    let mut connection = schema::open_to_change(folder)?;
    let failed = |source| failed(folder, source);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let mut forgotten = delete_one(&transaction, folder, name)?;
    let rows = forgotten.count();
    note_audit(&transaction, now, who, "forget", &format!("{rows} rows")).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    forgotten.is_settled = settle(&connection).unwrap_or(false);
    Ok(forgotten)
}

/// What [`forget`] would delete: it is deleted, counted, and taken back.
pub(crate) fn would_forget(folder: &Path, name: &str) -> Result<Forgotten, StoreError> {
    let mut connection = schema::open_to_change(folder)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|source| failed(folder, source))?;
    let forgotten = delete_one(&transaction, folder, name)?;
    transaction
        .rollback()
        .map_err(|source| failed(folder, source))?;
    Ok(forgotten)
}

fn failed(folder: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Unreadable {
        path: folder.join(FILE),
        step: "the device cannot be forgotten, and is all there",
        source,
    }
}

/// Deletes the one device that `name` means.
fn delete_one(
    transaction: &Transaction<'_>,
    folder: &Path,
    name: &str,
) -> Result<Forgotten, StoreError> {
    let failed = |source| failed(folder, source);
    let mut found = find(transaction, name).map_err(failed)?;
    let (id, device) = match found.len() {
        0 => {
            return Err(StoreError::NoDevice {
                path: folder.join(FILE),
                name: name.to_owned(),
            });
        }
        1 => found.remove(0),
        count => {
            return Err(StoreError::Ambiguous {
                name: name.to_owned(),
                count,
                candidates: found.into_iter().take(SHOWN).map(|(_, key)| key).collect(),
            });
        }
    };
    let mut forgotten = delete(transaction, id, name).map_err(failed)?;
    forgotten.device = device;
    Ok(forgotten)
}

/// Devices that `name` may mean.
fn find(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Vec<(i64, String)>> {
    let exact = devices(
        transaction,
        "SELECT id, key FROM devices WHERE key = ?1",
        name,
    )?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    if let Ok(mac) = name.parse::<Mac>() {
        return devices(
            transaction,
            "SELECT id, key FROM devices WHERE mac = ?1 ORDER BY key",
            &mac.to_string(),
        );
    }
    match name.parse::<IpAddr>() {
        Ok(address) => holders(transaction, address),
        Err(_) => Ok(Vec::new()),
    }
}

/// Devices that have had an address.
fn holders(transaction: &Transaction<'_>, address: IpAddr) -> rusqlite::Result<Vec<(i64, String)>> {
    transaction
        .prepare(
            "SELECT id, key FROM devices WHERE ' ' || addresses || ' ' LIKE '% ' || ?1 || ' %' \
             UNION SELECT id, key FROM devices WHERE id IN (SELECT device FROM sightings WHERE address = ?2) \
             ORDER BY key",
        )?
        .query_map(
            params![address.to_string(), Octets::of(address).all()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect()
}

fn devices(
    transaction: &Transaction<'_>,
    sql: &str,
    value: &str,
) -> rusqlite::Result<Vec<(i64, String)>> {
    transaction
        .prepare(sql)?
        .query_map([value], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn delete(transaction: &Transaction<'_>, id: i64, name: &str) -> rusqlite::Result<Forgotten> {
    let mut forgotten = Forgotten::default();
    // Connections of which no device is known, from an address that it alone held.
    let mut orphans = 0;
    for address in addresses(transaction, id, name)? {
        if holders(transaction, address)?
            .iter()
            .all(|(holder, _)| *holder == id)
        {
            orphans += transaction.execute(
                "DELETE FROM translations WHERE device IS NULL AND source = ?1",
                [Octets::of(address).all()],
            )?;
        }
    }
    for table in TABLES {
        let column = if table == "devices" { "id" } else { "device" };
        let mut rows =
            transaction.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [id])?;
        if table == "translations" {
            rows += orphans;
        }
        forgotten.rows.push((table, rows as u64));
    }
    Ok(forgotten)
}

/// The addresses that a device had.
fn addresses(transaction: &Transaction<'_>, id: i64, name: &str) -> rusqlite::Result<Vec<IpAddr>> {
    let listed: String =
        transaction.query_row("SELECT addresses FROM devices WHERE id = ?1", [id], |row| {
            row.get(0)
        })?;
    let mut addresses: Vec<IpAddr> = listed
        .split(' ')
        .chain([name])
        .filter_map(|address| address.parse().ok())
        .collect();
    let mut statement =
        transaction.prepare("SELECT DISTINCT address FROM sightings WHERE device = ?1")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        addresses.extend(super::rows::address(row.get_ref(0)?.as_blob()?));
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Copies the log into the file and empties it; answers whether it could.
fn settle(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0)
    })
}
