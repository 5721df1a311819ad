//! Devices of which the history remembers that they receive mail from outside.

use std::path::Path;

use rusqlite::{Connection, params};

use super::past::role;
use super::{FILE, StoreError, schema};
use crate::engine::Receiver;
use crate::model::Timestamp;

/// Devices that are told of at the most: it takes a machine that answers.
const MAX: u32 = 1024;

/// Those that have a mail server's role at `now`, the time of day, as the history in `folder` knows, in
/// the order of their ids; none where there is no history.
pub(crate) fn receivers(folder: &Path, now: Timestamp) -> Result<Vec<Receiver>, StoreError> {
    let connection = match schema::open_to_read(folder) {
        Err(StoreError::None { .. }) => return Ok(Vec::new()),
        opened => opened?,
    };
    read(&connection, now).map_err(|source| StoreError::Unreadable {
        path: folder.join(FILE),
        step: "cannot be read",
        source,
    })
}

fn read(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Receiver>> {
    let mut statement = connection.prepare(
        "SELECT key, addresses, mac, hostname, json_extract(state, '$.role') AS role \
         FROM states JOIN devices ON id = device \
         WHERE json_valid(state) AND role IS NOT NULL ORDER BY key LIMIT ?1",
    )?;
    let mut rows = statement.query(params![MAX])?;
    let mut receivers = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(role) = role(row.get(4)?, now) else {
            continue;
        };
        let mac: Option<String> = row.get(2)?;
        let addresses = row.get_ref(1)?.as_str()?.split(' ');
        receivers.push(Receiver {
            id: row.get(0)?,
            addresses: addresses.filter_map(|it| it.parse().ok()).collect(),
            mac: mac.and_then(|mac| mac.parse().ok()),
            hostname: row.get(3)?,
            role,
        });
    }
    Ok(receivers)
}
