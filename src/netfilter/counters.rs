//! The named counters of our table, all of them in one dump, without a process. They are read and
//! never reset: others may watch them, too.

use super::kernel::{Kernel, KernelError, Step, TABLE};
use crate::decode::netlink::Message;
use crate::sys::nftables::{GET_OBJECT, Request};

/// `NFTA_OBJ_TABLE`, `_NAME`, `_TYPE`, `_DATA`, and the type of counters (`NFT_OBJECT_COUNTER`).
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER: u32 = 1;
/// `NFTA_COUNTER_BYTES`, `NFTA_COUNTER_PACKETS`.
const BYTES: u16 = 1;
const PACKETS: u16 = 2;
/// Our table has a handful; what somebody adds beyond this is left out.
const MAX_COUNTERS: usize = 1024;

/// A named counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    /// Its name, such as `seen`.
    pub(crate) name: String,
    /// Packets since the table was loaded.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// All named counters of our table, in the order in which they were made. Without the table
/// [`KernelError::NoTable`].
pub(crate) fn read(kernel: &mut Kernel) -> Result<Vec<Counter>, KernelError> {
    let step = Step {
        doing: "reading the counters of table inet smtpwatch",
        set: None,
    };
    let counters = kernel.dump(step, |nftables| {
        let mut counters = Vec::new();
        let request = Request {
            message: GET_OBJECT,
            is_dump: true,
            names: &[(OBJECT_TABLE, TABLE)],
            number: Some((OBJECT_TYPE, COUNTER)),
        };
        nftables.ask(&request, |message| {
            if counters.len() < MAX_COUNTERS {
                counters.extend(counter(message));
            }
        })?;
        Ok(counters)
    })?;
    // A dump of a table that is not there is empty, and no error.
    if counters.is_empty() && !kernel.has_table()? {
        return Err(KernelError::NoTable {
            step: step.doing.to_owned(),
        });
    }
    Ok(counters)
}

fn counter(message: &Message<'_>) -> Option<Counter> {
    let attributes = message.attributes();
    let data = attributes.get(OBJECT_DATA)?.nested();
    Some(Counter {
        name: String::from_utf8_lossy(attributes.get(OBJECT_NAME)?.text()).into_owned(),
        packets: data.get(PACKETS)?.be64()?,
        bytes: data.get(BYTES)?.be64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{RULESET, in_namespace, nft, run};
    use super::*;

    #[test]
    fn counters_are_read_as_nft_lists_them() {
        in_namespace(|| {
            nft(RULESET);
            nft("table inet other { counter seen { packets 9 bytes 9 } ; }");
            let mut kernel = Kernel::open().unwrap();
            let counter = |name: &str, packets, bytes| Counter {
                name: name.to_owned(),
                packets,
                bytes,
            };
            let counters = read(&mut kernel).unwrap();
            assert_eq!(counters, [counter("seen", 0, 0), counter("logged", 3, 180)]);
            let listed = run("nft", &["list", "counters", "table", "inet", "smtpwatch"]).0;
            assert!(listed.contains("packets 3 bytes 180"), "{listed}");
            assert_eq!(read(&mut kernel).unwrap(), counters);
        });
    }

    #[test]
    fn a_table_without_counters_is_told_from_none() {
        in_namespace(|| {
            let mut kernel = Kernel::open().unwrap();
            let error = read(&mut kernel).unwrap_err();
            assert!(matches!(error, KernelError::NoTable { .. }), "{error}");
            assert!(!kernel.has_table().unwrap());
            nft("add table inet smtpwatch");
            assert_eq!(read(&mut kernel).unwrap(), []);
            assert!(kernel.has_table().unwrap());
        });
    }
}
