//! Floor 7: what runs the engine. Here: the offline run, in which inputs are merged by record time
//! and handed in until they end; and the live run ([`live`]).

pub(crate) mod clock;
pub(crate) mod doctor;
pub(crate) mod live;
mod merge;
mod offline;
mod progress;
mod replay;
mod simulate;
mod trial;

pub(crate) use offline::{Offline, Read};
pub(crate) use replay::{Replayed, replay};
pub(crate) use simulate::simulate;
pub(crate) use trial::Trial;
