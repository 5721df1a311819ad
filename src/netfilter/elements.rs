//! Elements of our table's sets, added with a timeout, deleted and listed: one batch or one dump
//! each, without a process. Sets themselves come with the rules. Sets of intervals and maps are
//! not for this.
//!
//! A set's type is not asked for: the kernel refuses keys of another length.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::kernel::{Kernel, KernelError, Step, TABLE, name};
use crate::decode::netlink::Attribute;
use crate::model::{Interface, Mac};
use crate::sys::nftables::{
    DATA_VALUE, ELEMENT_KEY, Failure, GET_ELEMENTS, GET_SET, LIST_ELEMENTS, LIST_SET, LIST_TABLE,
    Operation, Place, RawElement, Request,
};

/// The longest key: an interface and an IPv6 address.
const MAX_KEY: usize = 32;
/// Our sets hold at most 65,535 elements; what an altered one holds beyond is counted only.
const MAX_LISTED: usize = 1 << 18;
/// Elements may expire between being listed and deleted.
const MAX_DELETIONS: u32 = 4;
/// `NFTA_SET_ELEM_FLAGS`, `_TIMEOUT`, `_EXPIRATION`, `_EXPR`, `_EXPRESSIONS`.
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const ELEMENT_EXPRESSION: u16 = 7;
const ELEMENT_EXPRESSIONS: u16 = 11;
/// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`, in it `NFTA_COUNTER_PACKETS`.
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;
/// `NFTA_SET_DESC`, in it `NFTA_SET_DESC_SIZE`.
const SET_DESCRIPTION: u16 = 9;
const SET_SIZE: u16 = 1;

/// What a set's elements are told by.
pub(crate) trait Key: Copy {
    /// Bytes in the kernel's form.
    const LENGTH: usize;

    /// Writes it in the kernel's form to the begin of `bytes`, which are zero.
    fn write(&self, bytes: &mut [u8]);

    /// Reads it from the kernel's form.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// As `nft` prints it, bytes that are no text escaped.
    fn shown(&self) -> String;
}

/// A TCP or UDP port (`type inet_service`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Port(pub(crate) u16);

impl Key for Interface {
    const LENGTH: usize = 16;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..self.as_bytes().len()].copy_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == Self::LENGTH).then(|| {
            let end = bytes.iter().position(|&b| b == 0);
            Self::new(&bytes[..end.unwrap_or(bytes.len())])
        })
    }

    fn shown(&self) -> String {
        self.name().escape_debug().to_string()
    }
}

impl Key for Mac {
    const LENGTH: usize = 6;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..6].copy_from_slice(&self.0);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Key for Ipv4Addr {
    const LENGTH: usize = 4;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&self.octets());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        <[u8; 4]>::try_from(bytes).ok().map(Self::from)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Key for Ipv6Addr {
    const LENGTH: usize = 16;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..16].copy_from_slice(&self.octets());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        <[u8; 16]>::try_from(bytes).ok().map(Self::from)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Key for Port {
    const LENGTH: usize = 2;

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u16::from_be_bytes).map(Self)
    }

    fn shown(&self) -> String {
        self.0.to_string()
    }
}

/// A concatenation: each part begins at a multiple of four bytes, the size of a register.
impl<A: Key, B: Key> Key for (A, B) {
    const LENGTH: usize = A::LENGTH.next_multiple_of(4) + B::LENGTH.next_multiple_of(4);

    fn write(&self, bytes: &mut [u8]) {
        self.0.write(bytes);
        self.1.write(&mut bytes[A::LENGTH.next_multiple_of(4)..]);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::LENGTH {
            return None;
        }
        let (first, second) = bytes.split_at(A::LENGTH.next_multiple_of(4));
        Some((
            A::read(&first[..A::LENGTH])?,
            B::read(&second[..B::LENGTH])?,
        ))
    }

    fn shown(&self) -> String {
        format!("{} . {}", self.0.shown(), self.1.shown())
    }
}

/// A key in the kernel's form, padded with zeros.
type Encoded = [u8; MAX_KEY];

fn encoded<K: Key>(key: &K) -> Encoded {
    const { assert!(K::LENGTH <= MAX_KEY) };
    let mut bytes = [0; MAX_KEY];
    key.write(&mut bytes);
    bytes
}

/// An element as the kernel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<K> {
    /// What it stands for.
    pub(crate) key: K,
    /// How long it was to stay, where that is not the set's own time.
    pub(crate) timeout: Option<Duration>,
    /// How long it will stay from now on; none is for ever.
    pub(crate) expires: Option<Duration>,
    /// The packets that matched it, where the set counts them.
    pub(crate) packets: Option<u64>,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing<K> {
    /// Its elements, in no order.
    pub(crate) elements: Vec<Element<K>>,
    /// Elements that are not among them: too many, or with a key of another type.
    pub(crate) unread: usize,
}

/// A set of our table, by its name and the type of its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<K> {
    name: &'static CStr,
    keys: PhantomData<K>,
}

/// The ports that are watched.
pub(crate) const WATCHED_PORTS: Set<Port> = Set::new(c"watched_ports");

impl<K: Key> Set<K> {
    /// The set called `name`, with keys of this type.
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            keys: PhantomData,
        }
    }

    /// Adds elements that stay for the given time, or for ever where there is none and the set has
    /// no timeout of its own. One that is there already gets the new time. All of them or none; of
    /// a key that comes twice the last counts.
    ///
    /// Each is added, deleted and added again in one batch: since Linux 6.12 adding alone renews
    /// the time, before it would leave the old one, and what is not there cannot be deleted. The
    /// packet path sees the end of the batch only. An element's counter begins anew.
    pub(crate) fn add(
        &self,
        kernel: &mut Kernel,
        elements: &[(K, Option<Duration>)],
    ) -> Result<(), KernelError> {
        let last: BTreeMap<Encoded, Option<Duration>> = elements
            .iter()
            .map(|(key, timeout)| (encoded(key), *timeout))
            .collect();
        let raw = |timed: bool| -> Vec<_> {
            last.iter()
                .map(|(key, timeout)| RawElement {
                    key: &key[..K::LENGTH],
                    timeout: timeout.filter(|_| timed).map(milliseconds),
                })
                .collect()
        };
        let present = raw(false);
        let timed = raw(true);
        let changes = [
            (Operation::Add, present.as_slice()),
            (Operation::Delete, present.as_slice()),
            (Operation::Add, timed.as_slice()),
        ];
        let result = kernel.nftables.commit(TABLE, self.name, &changes);
        result.map_err(|failure| match failure {
            Failure::Refused(refusal, place) if refusal.errno == libc::ENFILE => {
                self.full(kernel, last.len(), &place)
            }
            failure => self.step("adding to").error(failure, shown::<K>),
        })
    }

    /// Deletes the elements with these keys, all at once; says how many were there. Where one is
    /// missing the kernel takes its time (10 ms) to take the batch back before it is tried anew.
    pub(crate) fn delete(&self, kernel: &mut Kernel, keys: &[K]) -> Result<usize, KernelError> {
        let mut keys: Vec<Encoded> = keys.iter().map(encoded).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut tries = 0;
        loop {
            if keys.is_empty() {
                return Ok(0);
            }
            tries += 1;
            let raw: Vec<_> = keys
                .iter()
                .map(|key| RawElement {
                    key: &key[..K::LENGTH],
                    timeout: None,
                })
                .collect();
            let changes = [(Operation::Delete, raw.as_slice())];
            match kernel.nftables.commit(TABLE, self.name, &changes) {
                Ok(()) => return Ok(keys.len()),
                Err(Failure::Refused(refusal, Place::Element(_) | Place::Unknown))
                    if refusal.errno == libc::ENOENT && tries < MAX_DELETIONS =>
                {
                    let listing = self.list(kernel)?;
                    let mut there: Vec<_> =
                        listing.elements.iter().map(|e| encoded(&e.key)).collect();
                    there.sort_unstable();
                    keys.retain(|key| there.binary_search(key).is_ok());
                }
                Err(failure) => {
                    return Err(self.step("deleting from").error(failure, shown::<K>));
                }
            }
        }
    }

    /// What it holds, with the time that each element has left.
    pub(crate) fn list(&self, kernel: &mut Kernel) -> Result<Listing<K>, KernelError> {
        kernel.dump(self.step("listing"), |nftables| {
            let mut listing = Listing {
                elements: Vec::new(),
                unread: 0,
            };
            let request = Request {
                message: GET_ELEMENTS,
                is_dump: true,
                names: &[(LIST_TABLE, TABLE), (LIST_SET, self.name)],
                number: None,
            };
            nftables.ask(&request, |message| {
                let list = message.attributes().get(LIST_ELEMENTS);
                for attribute in list.iter().flat_map(Attribute::nested) {
                    match element(&attribute) {
                        Some(element) if listing.elements.len() < MAX_LISTED => {
                            listing.elements.push(element);
                        }
                        _ => listing.unread += 1,
                    }
                }
            })?;
            Ok(listing)
        })
    }

    /// How many elements it holds at most; none where it has no limit or cannot be read.
    fn size(&self, kernel: &mut Kernel) -> Option<u32> {
        let mut size = None;
        let request = Request {
            message: GET_SET,
            is_dump: false,
            names: &[(LIST_TABLE, TABLE), (LIST_SET, self.name)],
            number: None,
        };
        let answer = kernel.nftables.ask(&request, |message| {
            let description = message.attributes().get(SET_DESCRIPTION);
            size = description
                .and_then(|description| description.nested().get(SET_SIZE))
                .and_then(|size| size.be32());
        });
        answer.ok().and(size)
    }

    fn full(&self, kernel: &mut Kernel, adding: usize, place: &Place) -> KernelError {
        KernelError::SetFull {
            set: name(self.name),
            size: self.size(kernel),
            adding,
            element: match place {
                Place::Element(key) => shown::<K>(key),
                _ => None,
            },
        }
    }

    fn step(&self, doing: &'static str) -> Step<'static> {
        Step {
            doing,
            set: Some(self.name),
        }
    }
}

fn shown<K: Key>(key: &[u8]) -> Option<String> {
    K::read(key).map(|key| key.shown())
}

/// At least one, for to the kernel none is for ever.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Reads an element of a dump.
fn element<K: Key>(attribute: &Attribute<'_>) -> Option<Element<K>> {
    let attributes = attribute.nested();
    // The end of an interval, or what stands for all other keys.
    if attributes
        .get(ELEMENT_FLAGS)
        .is_some_and(|flags| flags.be32() != Some(0))
    {
        return None;
    }
    let key = attributes.get(ELEMENT_KEY)?.nested().get(DATA_VALUE)?;
    let time = |kind| {
        let milliseconds = attributes.get(kind)?.be64()?;
        Some(Duration::from_millis(milliseconds))
    };
    Some(Element {
        key: K::read(key.value)?,
        timeout: time(ELEMENT_TIMEOUT),
        expires: time(ELEMENT_EXPIRATION),
        packets: packets(attribute),
    })
}

/// The count of an element's counter, which may be its only expression or one of several.
fn packets(element: &Attribute<'_>) -> Option<u64> {
    let several = element.nested().get(ELEMENT_EXPRESSIONS);
    let mut expressions = element
        .nested()
        .get(ELEMENT_EXPRESSION)
        .into_iter()
        .chain(several.iter().flat_map(Attribute::nested));
    expressions.find_map(|expression| {
        let name = expression.nested().get(EXPRESSION_NAME)?;
        if name.text() != b"counter" {
            return None;
        }
        let data = expression.nested().get(EXPRESSION_DATA)?;
        data.nested().get(COUNTER_PACKETS)?.be64()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use proptest::prelude::*;

    use super::super::testing::{
        InterfaceAddress4, InterfaceAddress6, InterfaceMac, QUARANTINE_MAC, QUARANTINE4,
        QUARANTINE6, RULESET, elements, in_namespace, nft, run,
    };
    use super::*;
    use crate::decode::netlink::{Attributes, building::attribute};
    use crate::sys::capabilities::{Capability, drop_from_this_thread};

    const FEW: Set<Mac> = Set::new(c"few");
    const ADDRESSES: Set<Ipv4Addr> = Set::new(c"addresses");
    const FOREVER: Set<Ipv6Addr> = Set::new(c"forever");
    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    fn device(number: u32) -> InterfaceMac {
        let [a, b, c, d] = number.to_be_bytes();
        (Interface::new(b"lan0"), Mac([2, 0, a, b, c, d]))
    }

    fn loaded() -> Kernel {
        nft(RULESET);
        Kernel::open().unwrap()
    }

    #[test]
    fn elements_of_each_type_are_as_nft_lists_them() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let eth = Interface::new(b"eth0");
            QUARANTINE_MAC
                .add(kernel, &[(device(1), MINUTE), (device(2), None)])
                .unwrap();
            let four = Ipv4Addr::new(192, 0, 2, 7);
            QUARANTINE4.add(kernel, &[((eth, four), MINUTE)]).unwrap();
            let six: Ipv6Addr = "2001:db8::7".parse().unwrap();
            QUARANTINE6.add(kernel, &[((eth, six), MINUTE)]).unwrap();
            FOREVER.add(kernel, &[(six, None)]).unwrap();
            ADDRESSES.add(kernel, &[(four, None)]).unwrap();
            WATCHED_PORTS.add(kernel, &[(Port(465), None)]).unwrap();

            let macs = elements("quarantine_mac");
            let timed = macs
                .iter()
                .find(|e| e["elem"].get("timeout").is_some())
                .unwrap();
            assert_eq!(timed["elem"]["timeout"], 60);
            assert_eq!(
                timed["elem"]["val"]["concat"],
                serde_json::json!(["lan0", "02:00:00:00:00:01"])
            );
            assert_eq!(macs.len(), 2);
            let concat = |set: &str| elements(set)[0]["elem"]["val"]["concat"].clone();
            assert_eq!(
                concat("quarantine4"),
                serde_json::json!(["eth0", "192.0.2.7"])
            );
            assert_eq!(
                concat("quarantine6"),
                serde_json::json!(["eth0", "2001:db8::7"])
            );
            assert_eq!(elements("forever"), [serde_json::json!("2001:db8::7")]);
            assert_eq!(elements("watched_ports").len(), 3);

            let listing = QUARANTINE_MAC.list(kernel).unwrap();
            assert_eq!((listing.elements.len(), listing.unread), (2, 0));
            let one = listing
                .elements
                .iter()
                .find(|e| e.key == device(1))
                .unwrap();
            assert_eq!((one.timeout, one.packets), (MINUTE, Some(0)));
            let left = one.expires.unwrap();
            assert!(left > Duration::from_secs(55) && left <= Duration::from_secs(60));
            let two = listing
                .elements
                .iter()
                .find(|e| e.key == device(2))
                .unwrap();
            assert_eq!((two.timeout, two.expires), (None, None));
            // Without a time of its own an element has its set's.
            let address = ADDRESSES.list(kernel).unwrap().elements[0];
            assert_eq!((address.timeout, address.packets), (None, None));
            assert!(address.expires.unwrap() > Duration::from_secs(3595));
            let six_listed = QUARANTINE6.list(kernel).unwrap().elements[0];
            assert_eq!(six_listed.key, (eth, six));
            let mut ports: Vec<_> = WATCHED_PORTS.list(kernel).unwrap().elements;
            ports.sort_by_key(|element| element.key);
            let ports: Vec<_> = ports.iter().map(|element| element.key.0).collect();
            assert_eq!(ports, [25, 465, 587]);
        });
    }

    #[test]
    fn adding_again_renews_shortens_and_lifts_the_time() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let time = |kernel: &mut Kernel| {
                let listing = QUARANTINE_MAC.list(kernel).unwrap();
                assert_eq!(listing.elements.len(), 1);
                let element = listing.elements[0];
                assert_eq!(element.timeout.is_some(), element.expires.is_some());
                assert!(element.expires <= element.timeout);
                element.timeout
            };
            for timeout in [
                MINUTE,
                Some(Duration::from_secs(3600)),
                Some(Duration::from_secs(5)),
                None,
                Some(Duration::from_secs(7)),
            ] {
                QUARANTINE_MAC.add(kernel, &[(device(1), timeout)]).unwrap();
                assert_eq!(time(kernel), timeout);
            }
            // Of a key that comes twice the last counts.
            let twice = [(device(1), None), (device(1), MINUTE)];
            QUARANTINE_MAC.add(kernel, &twice).unwrap();
            assert_eq!(time(kernel), MINUTE);
            QUARANTINE_MAC.add(kernel, &[]).unwrap();
            assert_eq!(QUARANTINE_MAC.list(kernel).unwrap().elements.len(), 1);
        });
    }

    #[test]
    fn a_timed_element_goes_away_by_itself() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let short = Some(Duration::from_micros(10));
            QUARANTINE_MAC
                .add(kernel, &[(device(1), short), (device(2), MINUTE)])
                .unwrap();
            for _ in 0..100 {
                if QUARANTINE_MAC.list(kernel).unwrap().elements.len() == 1 {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            let keys: Vec<_> = QUARANTINE_MAC.list(kernel).unwrap().elements;
            assert_eq!(keys.iter().map(|e| e.key).collect::<Vec<_>>(), [device(2)]);
        });
    }

    #[test]
    fn deleting_says_how_many_were_there() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let devices: Vec<_> = (0..10).map(|n| (device(n), MINUTE)).collect();
            QUARANTINE_MAC.add(kernel, &devices).unwrap();
            assert_eq!(
                QUARANTINE_MAC
                    .delete(kernel, &[device(0), device(0)])
                    .unwrap(),
                1
            );
            assert_eq!(QUARANTINE_MAC.delete(kernel, &[device(0)]).unwrap(), 0);
            let some: Vec<_> = (5..20).map(device).collect();
            assert_eq!(QUARANTINE_MAC.delete(kernel, &some).unwrap(), 5);
            assert_eq!(QUARANTINE_MAC.delete(kernel, &[]).unwrap(), 0);
            assert_eq!(elements("quarantine_mac").len(), 4);
        });
    }

    #[test]
    fn a_full_set_is_named_with_its_size_and_the_element_without_room() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let mac = |n| Mac([2, 0, 0, 0, 0, n]);
            let four: Vec<_> = (1..=4).map(|n| (mac(n), MINUTE)).collect();
            FEW.add(kernel, &four).unwrap();
            // To renew all of a full set needs no more room.
            FEW.add(kernel, &four).unwrap();
            let error = FEW
                .add(kernel, &[(mac(1), None), (mac(5), MINUTE)])
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "set few of table inet smtpwatch is full (4 elements): none of 2 elements was \
                 added, the first without room was 02:00:00:00:00:05; delete some of its elements first"
            );
            // Nothing of what was refused is there, and nothing was changed.
            let listing = FEW.list(kernel).unwrap();
            assert_eq!(listing.elements.len(), 4);
            assert!(
                listing
                    .elements
                    .iter()
                    .all(|e| e.timeout == MINUTE && e.key != mac(5))
            );
        });
    }

    #[test]
    fn errors_say_what_is_missing_and_what_to_do() {
        in_namespace(|| {
            let kernel = &mut Kernel::open().unwrap();
            let no_table = "there is no table inet smtpwatch; `smtpwatch rules install`";
            let one = [(device(1), MINUTE)];
            let error = QUARANTINE_MAC.add(kernel, &one).unwrap_err().to_string();
            assert!(error.contains(no_table), "{error}");
            assert!(error.starts_with("adding to set quarantine_mac of table inet smtpwatch"));
            let error = QUARANTINE_MAC.delete(kernel, &[device(1)]).unwrap_err();
            assert!(matches!(error, KernelError::NoTable { .. }), "{error}");
            let error = QUARANTINE_MAC.list(kernel).unwrap_err();
            assert!(matches!(error, KernelError::NoTable { .. }), "{error}");

            nft("add table inet smtpwatch");
            for error in [
                QUARANTINE_MAC.add(kernel, &one).unwrap_err(),
                QUARANTINE_MAC.delete(kernel, &[device(1)]).unwrap_err(),
                QUARANTINE_MAC.list(kernel).unwrap_err(),
            ] {
                let text = error.to_string();
                assert!(
                    text.starts_with("table inet smtpwatch has no set quarantine_mac"),
                    "{text}"
                );
            }
        });
    }

    #[test]
    fn what_a_set_cannot_hold_is_said_with_set_and_element() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let address = Ipv6Addr::LOCALHOST;
            let error = FOREVER.add(kernel, &[(address, MINUTE)]).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with(
                    "adding to set forever of table inet smtpwatch: element ::1: Invalid argument"
                ),
                "{text}"
            );
            let wrong: Set<Port> = Set::new(c"few");
            let error = wrong.add(kernel, &[(Port(25), None)]).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("set few of table inet smtpwatch: element 25: "),
                "{text}"
            );
            FEW.add(kernel, &[(Mac([2; 6]), None)]).unwrap();
            let listing = wrong.list(kernel).unwrap();
            assert_eq!((listing.elements.len(), listing.unread), (0, 1));
        });
    }

    #[test]
    fn without_the_capability_the_error_names_it() {
        in_namespace(|| {
            let kernel = &mut loaded();
            drop_from_this_thread(Capability::NetAdmin);
            for error in [
                QUARANTINE_MAC
                    .add(kernel, &[(device(1), MINUTE)])
                    .unwrap_err(),
                QUARANTINE_MAC.delete(kernel, &[device(1)]).unwrap_err(),
                QUARANTINE_MAC.list(kernel).unwrap_err(),
                super::super::counters::read(kernel).unwrap_err(),
                super::super::monitor::Monitor::open()
                    .map(|_| ())
                    .unwrap_err(),
            ] {
                let text = error.to_string();
                assert!(
                    text.contains(": not permitted; it needs CAP_NET_ADMIN: run"),
                    "{text}"
                );
            }
        });
    }

    #[test]
    fn twenty_thousand_elements_are_one_batch_and_one_dump() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let all: Vec<_> = (0..20_000).map(|n| (device(n), MINUTE)).collect();
            QUARANTINE_MAC.add(kernel, &all).unwrap();
            // Renewed as a whole, too.
            QUARANTINE_MAC.add(kernel, &all).unwrap();
            let listing = QUARANTINE_MAC.list(kernel).unwrap();
            assert_eq!((listing.elements.len(), listing.unread), (20_000, 0));
            let by_key: HashMap<_, _> = listing
                .elements
                .iter()
                .map(|e| (e.key.shown(), e.timeout))
                .collect();
            assert_eq!(by_key.len(), 20_000);
            assert!(
                all.iter()
                    .all(|(key, timeout)| by_key[&key.shown()] == *timeout)
            );
            assert_eq!(elements("quarantine_mac").len(), 20_000);
            // One of them too many, and none is deleted or added.
            let keys: Vec<_> = (0..20_000).map(device).collect();
            assert_eq!(QUARANTINE_MAC.delete(kernel, &keys).unwrap(), 20_000);
            let too_many: Vec<_> = (0..65_536).map(|n| (device(n), MINUTE)).collect();
            let error = QUARANTINE_MAC.add(kernel, &too_many).unwrap_err();
            assert!(
                matches!(
                    &error,
                    KernelError::SetFull {
                        size: Some(65_535),
                        element: Some(_),
                        ..
                    }
                ),
                "{error}"
            );
            assert_eq!(QUARANTINE_MAC.list(kernel).unwrap().elements, []);
        });
    }

    #[test]
    fn a_listing_is_whole_while_others_change_rules() {
        in_namespace(|| {
            let kernel = &mut loaded();
            let all: Vec<_> = (0..5_000).map(|n| (device(n), MINUTE)).collect();
            QUARANTINE_MAC.add(kernel, &all).unwrap();
            thread::scope(|scope| {
                let mut other = Kernel::open().unwrap();
                let changing = scope.spawn(move || {
                    for n in 0..200 {
                        let mac = Mac([2, 0, 0, 0, 1, n]);
                        FEW.add(&mut other, &[(mac, MINUTE)]).unwrap();
                        FEW.delete(&mut other, &[mac]).unwrap();
                        thread::sleep(Duration::from_millis(2));
                    }
                });
                let mut whole = 0;
                while !changing.is_finished() {
                    match QUARANTINE_MAC.list(kernel) {
                        Ok(listing) => {
                            assert_eq!(listing.elements.len(), 5_000);
                            whole += 1;
                        }
                        Err(KernelError::Restless { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                changing.join().unwrap();
                assert!(whole > 0);
            });
        });
    }

    #[test]
    fn a_device_is_held_while_its_element_is_renewed() {
        in_namespace(|| {
            run("ip", &["link", "set", "lo", "up"]);
            nft("table inet smtpwatch {
                counter held { }
                counter passed { }
                set quarantine4 { type ifname . ipv4_addr; flags timeout; }
                chain output {
                    type filter hook output priority 0; policy accept;
                    oifname . ip daddr @quarantine4 counter name held drop
                    counter name passed
                }
            }");
            let kernel = &mut Kernel::open().unwrap();
            let key = (Interface::new(b"lo"), Ipv4Addr::LOCALHOST);
            QUARANTINE4.add(kernel, &[(key, MINUTE)]).unwrap();
            let renewals = if std::env::var_os("SMTPWATCH_SOAK").is_some() {
                20_000
            } else {
                1_000
            };
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Held back in output, each is refused here.
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(sender.send_to(b"x", "127.0.0.1:25").is_err());
                    }
                });
                for _ in 0..renewals {
                    QUARANTINE4.add(kernel, &[(key, MINUTE)]).unwrap();
                }
                is_over.store(true, Ordering::Relaxed);
            });
            let counters = super::super::counters::read(kernel).unwrap();
            let packets = |name: &str| counters.iter().find(|c| c.name == name).unwrap().packets;
            assert_eq!(packets("passed"), 0);
            assert!(packets("held") > 100, "{counters:?}");
        });
    }

    #[test]
    fn kernel_and_monitor_may_move_to_another_thread() {
        fn moves<T: Send>() {}
        moves::<Kernel>();
        moves::<super::super::monitor::Monitor>();
    }

    fn read_back<K: Key + PartialEq + std::fmt::Debug>(key: K) {
        let bytes = encoded(&key);
        assert_eq!(K::read(&bytes[..K::LENGTH]), Some(key));
        assert_eq!(K::read(&bytes[..K::LENGTH - 1]), None);
    }

    #[test]
    fn keys_read_what_they_write() {
        let interface = Interface::new(b"fifteen-bytes-x");
        let mac = Mac([2, 1, 2, 3, 4, 5]);
        read_back(mac);
        read_back(Port(25));
        read_back((interface, mac));
        read_back((interface, Ipv4Addr::new(10, 0, 0, 1)));
        read_back((interface, Ipv6Addr::LOCALHOST));
        assert_eq!(InterfaceMac::LENGTH, 24);
        assert_eq!(InterfaceAddress4::LENGTH, 20);
        assert_eq!(InterfaceAddress6::LENGTH, 32);
        assert_eq!(
            (Interface::new(b"a\nb"), mac).shown(),
            "a\\nb . 02:01:02:03:04:05"
        );
    }

    proptest! {
        #[test]
        fn any_element_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            for attribute in Attributes::at(&bytes, 0) {
                let _ = element::<InterfaceMac>(&attribute);
            }
        }

        #[test]
        fn an_element_bent_anywhere_is_read_without_panic(at in any::<usize>(), to in any::<u8>(), end in any::<usize>()) {
            let counter = [
                attribute(EXPRESSION_NAME, b"counter\0"),
                attribute(EXPRESSION_DATA, &attribute(COUNTER_PACKETS, &9u64.to_be_bytes())),
            ].concat();
            let key = encoded(&device(1));
            let whole = [
                attribute(ELEMENT_KEY, &attribute(DATA_VALUE, &key[..InterfaceMac::LENGTH])),
                attribute(ELEMENT_TIMEOUT, &60_000u64.to_be_bytes()),
                attribute(ELEMENT_EXPRESSIONS, &attribute(1, &counter)),
            ].concat();
            let mut bytes = attribute(1, &whole);
            let read = element::<InterfaceMac>(&Attributes::at(&bytes, 0).next().unwrap()).unwrap();
            prop_assert_eq!((read.key, read.timeout, read.packets), (device(1), MINUTE, Some(9)));
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(end % (bytes.len() + 1));
            for attribute in Attributes::at(&bytes, 0) {
                let _ = element::<InterfaceMac>(&attribute);
            }
        }
    }
}
