//! What a new run goes on with: the detectors' states, who had which address, and how far sources had
//! been read.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, params};

use super::retention::oldest_state;
use super::rows::address;
use super::{FILE, StoreError, schema};
use crate::engine::DeviceState;
use crate::model::{DeviceKey, Held, Interface, MICROS_PER_SECOND, Mac, SourceName, Timestamp};

/// States that are taken up, the latest first.
const MAX_STATES: u32 = 16_384;
/// Addresses that were held.
const MAX_HELD: u32 = 65_536;
/// Positions.
const MAX_POSITIONS: u32 = 256;
/// How long ago an address may have been held, in microseconds.
const HELD: i64 = 2 * 24 * 3600 * MICROS_PER_SECOND;

/// What a new run goes on with. Times are of the day.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resumed {
    /// States of the devices of the last 30 days, the latest first, at most 16,384.
    pub(crate) states: Vec<DeviceState>,
    /// Addresses at which stations were seen in the last two days, the latest first, at most 65,536.
    pub(crate) held: Vec<Held>,
    /// How far sources had been read.
    pub(crate) positions: Vec<(SourceName, String)>,
    /// Rows that this version does not understand.
    pub(crate) unreadable: u64,
}

/// Reads what a run that begins at `now`, the time of day, goes on with from the history in `folder`:
/// nothing where there is none. Of a file that is not ours, or of an earlier version, it is to be asked
/// after [`Writer::start`](super::Writer::start) has seen to that.
pub(crate) fn resume(folder: &Path, now: Timestamp) -> Result<Resumed, StoreError> {
    let connection = match schema::open_to_read(folder) {
        Err(StoreError::None { .. }) => return Ok(Resumed::default()),
        opened => opened?,
    };
    read(&connection, now).map_err(|source| StoreError::Unreadable {
        path: folder.join(FILE),
        step: "cannot be read",
        source,
    })
}

fn read(connection: &Connection, now: Timestamp) -> rusqlite::Result<Resumed> {
    let mut resumed = Resumed::default();
    let mut statement = connection
        .prepare("SELECT state FROM states WHERE changed >= ?1 ORDER BY changed DESC LIMIT ?2")?;
    let mut rows = statement.query(params![oldest_state(now), MAX_STATES])?;
    while let Some(row) = rows.next()? {
        match serde_json::from_str(row.get_ref(0)?.as_str()?) {
            Ok(state) => resumed.states.push(state),
            Err(_) => resumed.unreadable += 1,
        }
    }
    read_held(connection, now, &mut resumed)?;
    let mut statement = connection
        .prepare("SELECT source, position FROM positions ORDER BY changed DESC LIMIT ?1")?;
    let mut rows = statement.query([MAX_POSITIONS])?;
    while let Some(row) = rows.next()? {
        match serde_json::from_str(row.get_ref(0)?.as_str()?) {
            Ok(source) => resumed.positions.push((source, row.get(1)?)),
            Err(_) => resumed.unreadable += 1,
        }
    }
    Ok(resumed)
}

/// Addresses of stations: of those alone a neighbour entry can speak.
fn read_held(
    connection: &Connection,
    now: Timestamp,
    resumed: &mut Resumed,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT device, interface, address, mac, first, last FROM sightings \
         WHERE last >= ?1 AND interface IS NOT NULL AND mac IS NOT NULL ORDER BY last DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![now.as_micros().saturating_sub(HELD), MAX_HELD])?;
    let mut keys: HashMap<i64, String> = HashMap::new();
    let mut key = connection.prepare("SELECT key FROM devices WHERE id = ?1")?;
    while let Some(row) = rows.next()? {
        let device: i64 = row.get(0)?;
        let interface = Interface::new(row.get_ref(1)?.as_blob()?);
        let (Some(address), Ok(mac)) = (
            address(row.get_ref(2)?.as_blob()?),
            <[u8; 6]>::try_from(row.get_ref(3)?.as_blob()?),
        ) else {
            resumed.unreadable += 1;
            continue;
        };
        let mac = Mac(mac);
        let own = match keys.get(&device) {
            Some(own) => own,
            None => {
                let own = key.query_row([device], |row| row.get(0))?;
                keys.entry(device).or_insert(own)
            }
        };
        if *own == DeviceKey::Station(interface, mac).to_string() {
            resumed.held.push(Held {
                interface,
                address,
                mac,
                from: Timestamp::from_micros(row.get(4)?),
                until: Timestamp::from_micros(row.get(5)?),
            });
        }
    }
    Ok(())
}
