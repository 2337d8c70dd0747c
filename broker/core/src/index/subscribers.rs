//! The subscribers of one filter: most filters have one, some have many.

use hashbrown::HashMap;

/// Up to here a sorted vector is as quick as a hash map and a third of its size.
const MAX_SORTED: usize = 64;

/// Never empty while its filter is in the index. Boxed where there are several, so that the one of most filters is small.
#[derive(Debug)]
pub(super) enum Subscribers<V> {
    One(u32, V),
    /// Sorted by subscriber.
    #[allow(clippy::box_collection)] // A vector is two words larger than a box.
    Few(Box<Vec<(u32, V)>>),
    Many(Box<HashMap<u32, V>>),
}

impl<V> Subscribers<V> {
    pub(super) fn for_each(&self, found: &mut impl FnMut(u32, &V)) {
        match self {
            Subscribers::One(subscriber, value) => found(*subscriber, value),
            Subscribers::Few(few) => few.iter().for_each(|(subscriber, value)| found(*subscriber, value)),
            Subscribers::Many(many) => many.iter().for_each(|(subscriber, value)| found(*subscriber, value)),
        }
    }

    pub(super) fn get(&self, subscriber: u32) -> Option<&V> {
        match self {
            Subscribers::One(only, value) => (*only == subscriber).then_some(value),
            Subscribers::Few(few) => {
                let at = few.binary_search_by_key(&subscriber, |(s, _)| *s).ok()?;
                Some(&few[at].1)
            }
            Subscribers::Many(many) => many.get(&subscriber),
        }
    }

    pub(super) fn get_mut(&mut self, subscriber: u32) -> Option<&mut V> {
        match self {
            Subscribers::One(only, value) => (*only == subscriber).then_some(value),
            Subscribers::Few(few) => {
                let at = few.binary_search_by_key(&subscriber, |(s, _)| *s).ok()?;
                Some(&mut few[at].1)
            }
            Subscribers::Many(many) => many.get_mut(&subscriber),
        }
    }

    /// The value it replaces.
    pub(super) fn insert(&mut self, subscriber: u32, value: V) -> Option<V> {
        match self {
            Subscribers::One(only, old) if *only == subscriber => Some(std::mem::replace(old, value)),
            Subscribers::Many(many) => many.insert(subscriber, value),
            _ => self.insert_sorted(subscriber, value),
        }
    }

    fn insert_sorted(&mut self, subscriber: u32, value: V) -> Option<V> {
        let mut few = self.take_few();
        let replaced = match few.binary_search_by_key(&subscriber, |(s, _)| *s) {
            Ok(at) => Some(std::mem::replace(&mut few[at].1, value)),
            Err(at) => {
                few.insert(at, (subscriber, value));
                None
            }
        };
        *self = Self::from_few(few);
        replaced
    }

    /// The value, if it was there. Not for the last one: see [`Subscribers::is_only`].
    pub(super) fn remove(&mut self, subscriber: u32) -> Option<V> {
        match self {
            Subscribers::One(..) => None,
            Subscribers::Few(few) => {
                let at = few.binary_search_by_key(&subscriber, |(s, _)| *s).ok()?;
                let (_, value) = few.remove(at);
                *self = Self::from_few(self.take_few());
                Some(value)
            }
            Subscribers::Many(many) => {
                let value = many.remove(&subscriber)?;
                if many.len() <= MAX_SORTED / 2 {
                    *self = Self::from_few(self.take_few());
                }
                Some(value)
            }
        }
    }

    /// Whether this subscriber is the last one.
    pub(super) fn is_only(&self, subscriber: u32) -> bool {
        matches!(self, Subscribers::One(only, _) if *only == subscriber)
    }

    /// The value of the only one.
    pub(super) fn into_only(self) -> Option<V> {
        match self {
            Subscribers::One(_, value) => Some(value),
            Subscribers::Few(_) | Subscribers::Many(_) => None,
        }
    }

    /// All of them as a sorted vector; leaves nothing behind.
    fn take_few(&mut self) -> Vec<(u32, V)> {
        match std::mem::replace(self, Subscribers::Few(Box::default())) {
            Subscribers::One(subscriber, value) => vec![(subscriber, value)],
            Subscribers::Few(few) => *few,
            Subscribers::Many(many) => {
                let mut few: Vec<_> = many.into_iter().collect();
                few.sort_unstable_by_key(|(subscriber, _)| *subscriber);
                few
            }
        }
    }

    fn from_few(mut few: Vec<(u32, V)>) -> Self {
        if few.len() > MAX_SORTED {
            return Subscribers::Many(Box::new(few.into_iter().collect()));
        }
        if few.len() == 1
            && let Some((subscriber, value)) = few.pop()
        {
            return Subscribers::One(subscriber, value);
        }
        if few.len() * 4 < few.capacity() {
            few.shrink_to(few.len() * 2);
        }
        Subscribers::Few(Box::new(few))
    }
}
