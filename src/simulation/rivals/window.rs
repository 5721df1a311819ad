//! What was seen within the last so many microseconds.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::model::Timestamp;

/// Times and servers, the latest last. It is kept no longer than it takes to alarm.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Timestamp, Option<IpAddr>)>);

impl Window {
    /// How many events there were within `length`, the one at `time` among them.
    pub(super) fn count(&mut self, time: Timestamp, length: i64) -> usize {
        self.forget(time, length);
        self.0.push_back((time, None));
        self.0.len()
    }

    /// How many servers there were within `length`, `server` at `time` among them.
    pub(super) fn servers(&mut self, time: Timestamp, length: i64, server: IpAddr) -> usize {
        self.forget(time, length);
        self.0.retain(|(_, known)| *known != Some(server));
        self.0.push_back((time, Some(server)));
        self.0.len()
    }

    fn forget(&mut self, time: Timestamp, length: i64) {
        while let Some((first, _)) = self.0.front()
            && time.micros_since(*first) > length
        {
            self.0.pop_front();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.capacity() * size_of::<(Timestamp, Option<IpAddr>)>()
    }
}
