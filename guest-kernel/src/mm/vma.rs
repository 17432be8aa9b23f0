//! The areas of an address space: what the program asked for, whatever is mapped of it.

use alloc::collections::BTreeMap;

use bitflags::bitflags;

use super::addr::UserAddr;
use crate::fs::inode::InodeRef;

bitflags! {
    /// What an area allows; the bits of `PROT_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u32 {
        /// PROT_READ
        const READ = 1;
        /// PROT_WRITE
        const WRITE = 2;
        /// PROT_EXEC
        const EXECUTE = 4;
    }
}

/// Whether stores are seen by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// MAP_PRIVATE: copied on write.
    Private,
    /// MAP_SHARED.
    Shared,
}

/// Where an area's pages come from.
#[derive(Clone)]
pub enum Source {
    /// Zeroed memory.
    Anonymous,
    /// The main stack: zeroed memory that grows down to `limit`.
    Stack {
        /// The lowest address it may reach.
        limit: UserAddr,
    },
    /// A file, from `page` on.
    File {
        /// The file.
        inode: InodeRef,
        /// Index of the file's page at the start of the area.
        page: u64,
    },
    /// Pages that the kernel mapped when it made the area (the vDSO): no faults.
    Special(&'static str),
}

impl Source {
    /// The source for the part that begins `pages` further on.
    fn advance(&self, pages: u64) -> Self {
        match self {
            Self::File { inode, page } => Self::File { inode: inode.clone(), page: page + pages },
            other => other.clone(),
        }
    }

    fn continues(&self, pages: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::File { inode: a, page: p }, Self::File { inode: b, page: q }) => {
                p + pages == *q && crate::fs::inode::same(a, b)
            }
            _ => false,
        }
    }
}

/// An area; its start is its key in [`Areas`].
#[derive(Clone)]
pub struct Area {
    /// End (exclusive), on a page boundary.
    pub end: UserAddr,
    /// What is allowed.
    pub protection: Protection,
    /// Whether it is shared.
    pub sharing: Sharing,
    /// Where its pages come from.
    pub source: Source,
}

/// The areas, sorted, without overlaps.
#[derive(Clone, Default)]
pub struct Areas(BTreeMap<UserAddr, Area>);

fn pages(start: UserAddr, end: UserAddr) -> u64 {
    (end.0 - start.0) / super::addr::PAGE as u64
}

impl Areas {
    /// The area that holds `addr`.
    #[must_use]
    pub fn find(&self, addr: UserAddr) -> Option<(UserAddr, &Area)> {
        let (start, area) = self.0.range(..=addr).next_back()?;
        (addr < area.end).then_some((*start, area))
    }

    /// The first area that ends above `addr`.
    #[must_use]
    pub fn at_or_above(&self, addr: UserAddr) -> Option<(UserAddr, &Area)> {
        self.find(addr).or_else(|| self.0.range(addr..).next().map(|(s, a)| (*s, a)))
    }

    /// Whether anything lies in `start..end`.
    #[must_use]
    pub fn overlaps(&self, start: UserAddr, end: UserAddr) -> bool {
        self.0.range(..end).next_back().is_some_and(|(_, area)| area.end > start)
    }

    /// All areas from low to high.
    pub fn iter(&self) -> impl Iterator<Item = (UserAddr, &Area)> {
        self.0.iter().map(|(start, area)| (*start, area))
    }

    /// Number of areas.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an area where there is none, joined with its neighbours if they are of one kind.
    pub fn insert(&mut self, mut start: UserAddr, mut area: Area) {
        if let Some((&before_start, before)) = self.0.range(..start).next_back()
            && before.end == start
            && joinable(before, &area, pages(before_start, start))
        {
            start = before_start;
            let mut joined = before.clone();
            joined.end = area.end;
            area = joined;
        }
        if let Some(after) = self.0.get(&area.end)
            && joinable(&area, after, pages(start, area.end))
        {
            let end = area.end;
            area.end = after.end;
            self.0.remove(&end);
        }
        self.0.insert(start, area);
    }

    /// Takes everything out of `start..end`, cutting areas at the edges; the pieces come back in order.
    pub fn take(
        &mut self,
        start: UserAddr,
        end: UserAddr,
    ) -> impl Iterator<Item = (UserAddr, Area)> + use<> {
        self.split(start);
        self.split(end);
        let mut rest = self.0.split_off(&start);
        let mut above = rest.split_off(&end);
        self.0.append(&mut above);
        rest.into_iter()
    }

    /// Cuts the area that spans `at` in two.
    fn split(&mut self, at: UserAddr) {
        let Some((start, area)) = self.find(at) else { return };
        if start == at {
            return;
        }
        let upper = Area { source: area.source.advance(pages(start, at)), ..area.clone() };
        if let Some(lower) = self.0.get_mut(&start) {
            lower.end = at;
        }
        self.0.insert(at, upper);
    }

    /// Whether all of `start..end` is covered.
    #[must_use]
    pub fn covers(&self, start: UserAddr, end: UserAddr) -> bool {
        let mut at = start;
        while at < end {
            match self.find(at) {
                Some((_, area)) => at = area.end,
                None => return false,
            }
        }
        true
    }

    /// The highest hole of `len` bytes that ends at or below `top` and begins at or above `bottom`.
    #[must_use]
    pub fn hole_below(&self, bottom: UserAddr, top: UserAddr, len: u64) -> Option<UserAddr> {
        let mut end = top;
        for (start, area) in self.0.range(..top).rev() {
            if area.end <= end && end.0 - area.end.0 >= len {
                break;
            }
            end = end.min(*start);
        }
        let start = end.0.checked_sub(len).map(UserAddr)?;
        (start >= bottom).then_some(start)
    }

    /// Moves the start of the area at `start` down to `lower`: the stack grows.
    pub fn grow_down(&mut self, start: UserAddr, lower: UserAddr) {
        if let Some(area) = self.0.remove(&start) {
            self.0.insert(lower, area);
        }
    }
}

fn joinable(lower: &Area, upper: &Area, lower_pages: u64) -> bool {
    lower.protection == upper.protection
        && lower.sharing == upper.sharing
        && lower.sharing == Sharing::Private
        && lower.source.continues(lower_pages, &upper.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::addr::PAGE;

    /// A xorshift generator: tests repeat.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    fn page(index: u64) -> UserAddr {
        UserAddr(index * PAGE as u64)
    }

    fn area(end: u64, protection: Protection) -> Area {
        Area { end: page(end), protection, sharing: Sharing::Private, source: Source::Anonymous }
    }

    /// Against a naive model: the protection of each of 64 pages.
    #[test]
    fn areas_agree_with_a_page_by_page_model() {
        const PAGES: u64 = 64;
        let mut seed = 0x2545_f491_4f6c_dd1d;
        let mut areas = Areas::default();
        let mut model: Vec<Option<u32>> = vec![None; PAGES as usize];
        for _ in 0..20_000 {
            let start = next(&mut seed) % PAGES;
            let end = (start + 1 + next(&mut seed) % 12).min(PAGES);
            let bits = (next(&mut seed) % 8) as u32;
            let removed: u64 =
                areas.take(page(start), page(end)).map(|(s, a)| pages(s, a.end)).sum();
            let range = start as usize..end as usize;
            assert_eq!(removed, model[range.clone()].iter().flatten().count() as u64);
            model[range.clone()].fill(None);
            if bits != 7 {
                let protection = Protection::from_bits(bits).expect("three bits");
                areas.insert(page(start), area(end, protection));
                model[range].fill(Some(bits));
            }

            for (index, expected) in model.iter().enumerate() {
                let found = areas.find(page(index as u64));
                assert_eq!(found.map(|(_, area)| area.protection.bits()), *expected);
            }
            let overlaps = model[start as usize..end as usize].iter().any(Option::is_some);
            assert_eq!(areas.overlaps(page(start), page(end)), overlaps);
            let covered = model[start as usize..end as usize].iter().all(Option::is_some);
            assert_eq!(areas.covers(page(start), page(end)), covered);
            let runs = 1 + model.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(areas.len() <= runs, "equal neighbours are joined");
            let hole = areas.hole_below(page(0), page(PAGES), 3 * PAGE as u64);
            let expected = (0..PAGES as usize - 2)
                .rev()
                .find(|&i| model[i..i + 3].iter().all(Option::is_none));
            assert_eq!(hole, expected.map(|i| page(i as u64)));
        }
    }
}
