//! Where the following of a log begins: at its end, or at a place that an earlier run kept, wherever
//! that is by now.

use std::fs::File;
use std::io;

use super::generation::{Generation, generations};
use super::position::{Place, Position, Print};
use super::tail::{Id, Tail, holds};
use super::{Follower, MAX_KNOWN, MAX_TRIES, failing};
use crate::source::live::LiveError;

/// What follows a place in a file that was found to hold it.
pub(super) enum Rest {
    /// What is to be read.
    Left(Box<Tail>),
    /// It ends before the place.
    Nothing,
}

impl Follower {
    /// Begins at the end of the log, or with all of one that is to come.
    pub(super) fn start(&mut self, file: Option<File>) -> Result<(), LiveError> {
        let said = match &file {
            Some(_) => "followed from its end on",
            None => "is not there; it is waited for",
        };
        self.notes.push(format!("{}: {said}", self.path.display()));
        self.current = match file {
            Some(file) => Some(failing("reading", &self.path, Tail::at_end(file))?),
            None => None,
        };
        self.know_all();
        Ok(())
    }

    /// What was rotated before does not count; a copy of what is there still was not rotated yet.
    fn know_all(&mut self) {
        let current = self.current.as_ref().map_or(&[][..], Tail::head);
        let is_copy = |head: &Vec<u8>| {
            !current.is_empty() && (head.starts_with(current) || current.starts_with(head))
        };
        let newest = generations(&self.real).into_iter().take(MAX_KNOWN);
        let mut heads: Vec<Vec<u8>> = newest
            .filter_map(|one| one.head())
            .filter(|head| !is_copy(head))
            .collect();
        heads.reverse();
        for head in heads {
            self.remember(&head);
        }
    }

    /// Goes on at `position`, whatever has become of the files since.
    pub(super) fn resume(
        &mut self,
        position: Position,
        file: Option<File>,
    ) -> Result<(), LiveError> {
        self.known = position.known.into_iter().take(MAX_KNOWN).collect();
        for place in position.old {
            match self.located(&place) {
                Some(Rest::Left(tail)) => self.old.push(*tail),
                None if place.unread > 0 => {
                    let lost = self.lines_in(place.unread);
                    self.lose(lost, "a rotated file that was not read to its end is gone");
                }
                Some(Rest::Nothing) | None => {}
            }
        }
        let place = position.current.unwrap_or_default();
        let is_untouched = place.head.0 == 0;
        let mut is_truncated = false;
        if let Some(file) = &file {
            let metadata = failing("looking at", &self.path, file.metadata())?;
            is_truncated = Id::of(&metadata).is_of(&place);
            let is_same = failing("reading", &self.path, holds(file, &place))? == Some(true);
            if is_same && (!is_untouched || is_truncated) {
                let file = failing("reading", &self.path, file.try_clone())?;
                let tail = failing("reading", &self.path, Tail::new(file, place.offset))?;
                self.current = Some(tail.cut(place.is_cut));
                return Ok(());
            }
        }
        let is_anchored = self.is_anchored() || (self.known.is_empty() && is_untouched);
        match self.located(&place) {
            Some(Rest::Left(mut tail)) => {
                tail.is_copy = is_truncated;
                self.old.push(*tail);
            }
            Some(Rest::Nothing) => {
                let copy = generations(&self.real)
                    .iter()
                    .find_map(|one| one.head().filter(|head| place.head.begins(head)));
                self.remember(&copy.unwrap_or_default());
            }
            None if is_untouched && is_anchored => {}
            None => {
                let lost = self.lines_in(place.unread);
                self.lose(
                    lost,
                    "what was read of it last is gone; what was written until it went may be lost",
                );
                if !is_anchored {
                    return self.start(file);
                }
            }
        }
        let fresh = self.fresh();
        self.queue(&fresh, is_truncated);
        self.current = match file {
            Some(file) => Some(failing("reading", &self.path, Tail::new(file, 0))?),
            None => None,
        };
        Ok(())
    }

    /// Where `place` is in one of the rotated files: in the file itself, if it is there, and not in a
    /// copy. They are listed after the log was looked at, for whoever truncates it has copied it before;
    /// and again where none is the one, for they may get other names before they are opened.
    fn located(&self, place: &Place) -> Option<Rest> {
        (0..MAX_TRIES).find_map(|_| {
            let all = generations(&self.real);
            let itself = all.iter().filter(|one| one.id.is_of(place));
            let others = all.iter().filter(|one| !one.id.is_of(place));
            itself
                .chain(others)
                .find_map(|one| rest_of(place, one, &one.head()?))
        })
    }

    /// Whether one of the rotated files is known, so that what is newer is known to be new.
    fn is_anchored(&self) -> bool {
        let all = generations(&self.real);
        let mut heads = all.iter().filter_map(Generation::head);
        !self.old.is_empty() || heads.any(|head| self.known.contains(&Print::of(&head)))
    }
}

/// All of a rotated file.
pub(super) fn whole(one: &Generation, head: &[u8]) -> io::Result<Tail> {
    match one.plain()? {
        Some(file) => Tail::new(file, 0),
        None => Ok(Tail::packed(
            one.open()?,
            one.id,
            head.to_vec(),
            Place::default(),
        )),
    }
}

/// Where `place` is in a rotated file: what follows it there, or that nothing does.
pub(super) fn rest_of(place: &Place, one: &Generation, head: &[u8]) -> Option<Rest> {
    if place.head.0 == 0 {
        let tail = one.id.is_of(place).then(|| whole(one, head).ok()).flatten();
        return tail.map(|tail| Rest::Left(Box::new(tail)));
    }
    let Ok(Some(file)) = one.plain() else {
        let reader = place.head.begins(head).then(|| one.open().ok()).flatten()?;
        return Some(Rest::Left(Box::new(Tail::packed(
            reader,
            one.id,
            head.to_vec(),
            place.clone(),
        ))));
    };
    match holds(&file, place) {
        Ok(Some(true)) => {
            let tail = Tail::new(file, place.offset).ok()?;
            Some(Rest::Left(Box::new(tail.cut(place.is_cut))))
        }
        Ok(None) => Some(Rest::Nothing),
        Ok(Some(false)) | Err(_) => None,
    }
}
