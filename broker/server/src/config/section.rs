//! Reads one TOML table key by key. A key that is asked for is thereby a known key; what was never asked for is reported at the
//! end, with the nearest known one. After a problem reading goes on, so that one run finds them all.

use super::error::Source;
use super::json;
use super::nearest::nearest;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table of the file. Getters answer `None` (or the default they were given) where the key is absent, and also where its
/// value is wrong: then the problem is noted, and whatever is made of the answer is thrown away with the whole configuration.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    title: String,
    span: Range<usize>,
    /// `None`: the table is not in the file, so every key is absent.
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

/// The closed set of values of a key.
pub(super) struct Words<T: 'static> {
    /// The values that work.
    pub known: &'static [(&'static str, T)],
    /// The values whose feature does not exist yet.
    pub later: &'static [&'static str],
}

/// What the section is called that is the whole file.
const DOCUMENT: &str = "this file";

impl<'a> Section<'a> {
    /// Reads the whole document.
    pub(super) fn read_document<T>(
        source: &'a Source<'a>,
        document: &'a Spanned<DeTable<'a>>,
        body: impl FnOnce(&mut Self) -> T,
    ) -> T {
        Self::read(
            source,
            DOCUMENT.to_owned(),
            document.span(),
            Some(document.get_ref()),
            body,
        )
    }

    /// Reads a table: `body` asks for every key there is, then what it did not ask for is reported. A body must therefore ask
    /// for all keys before it gives up on one.
    fn read<T>(
        source: &'a Source<'a>,
        title: String,
        span: Range<usize>,
        table: Option<&'a DeTable<'a>>,
        body: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut section = Self {
            source,
            title,
            span,
            table,
            asked: Vec::new(),
        };
        let value = body(&mut section);
        section.report_unknown_keys();
        value
    }

    fn report_unknown_keys(&self) {
        let keys = self.table.into_iter().flat_map(DeTable::keys);
        for key in keys.filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let advice = match nearest(key.get_ref(), &self.asked) {
                Some(known) => format!("write {known}"),
                None => format!("known keys: {}", self.asked.join(", ")),
            };
            self.problem(
                &key.span(),
                format!("unknown key {} in {}; {advice}", key.get_ref(), self.title),
            );
        }
    }

    /// Notes a problem at `span`.
    pub(super) fn problem(&self, span: &Range<usize>, message: impl Into<String>) {
        self.source.problem(span, message);
    }

    /// Where the section starts.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether a key is there, with a right value or a wrong one.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str, example: &str) -> Option<Spanned<&'a str>> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "a string", &format!("{key} = \"{example}\""));
        }
        Some(Spanned::new(value.span(), text?))
    }

    /// A string that means something; `parse` says what is wrong with it and what to write instead.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let text = self.text(key, example)?;
        Some(Spanned::new(text.span(), self.parse(key, &text, parse)?))
    }

    /// As [`Section::parsed`], for a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        if !self.has(key) {
            self.problem(
                &self.span,
                format!("{} needs a {key}; write {key} = \"{example}\"", self.title),
            );
        }
        self.parsed(key, example, parse)
    }

    /// One word of a closed set.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &Words<T>) -> Option<Spanned<T>> {
        self.parsed(key, words.known.first().map_or("", |(word, _)| word), |text| {
            words.find(text)
        })
    }

    /// As [`Section::word`], with a default.
    pub(super) fn word_or<T: Copy>(&mut self, key: &'static str, words: &Words<T>, default: T) -> T {
        self.word(key, words).map_or(default, Spanned::into_inner)
    }

    /// An array of strings that each mean something and differ.
    pub(super) fn parsed_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let list = self.spanned_list(key, example, parse)?;
        Some(list.into_iter().map(Spanned::into_inner).collect())
    }

    /// As [`Section::parsed_list`], with the place of each.
    pub(super) fn spanned_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Spanned<T>>> {
        let texts = self.texts(key, example)?;
        let mut list: Vec<Spanned<T>> = Vec::with_capacity(texts.len());
        for text in texts {
            match self.parse(key, &text, &parse) {
                Some(value) if list.iter().any(|known| *known.get_ref() == value) => self.problem(
                    &text.span(),
                    format!("{key} has {:?} twice; remove one of them", text.get_ref()),
                ),
                Some(value) => list.push(Spanned::new(text.span(), value)),
                None => {}
            }
        }
        Some(list)
    }

    /// As [`Section::parsed_list`], and not empty: that would be a way to switch something off that does not say so.
    pub(super) fn some_of<T: PartialEq>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        match self
            .value(key)
            .filter(|value| value.get_ref().as_array().is_some_and(|array| array.is_empty()))
        {
            Some(empty) => {
                self.problem(
                    &empty.span(),
                    format!("{key} is empty; remove it for the default, or write [\"{example}\"]"),
                );
                None
            }
            None => self.parsed_list(key, example, parse),
        }
    }

    /// A table from free names to strings that each mean something.
    pub(super) fn parsed_map<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<BTreeMap<String, T>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table", &format!("{key} = {{ {example} }}"));
            return None;
        };
        let mut map = BTreeMap::new();
        for (name, value) in table.iter() {
            match value.get_ref().as_str() {
                Some(text) => {
                    let parsed = self.parse(name.get_ref(), &Spanned::new(value.span(), text), &parse);
                    map.extend(parsed.map(|parsed| (name.get_ref().to_string(), parsed)));
                }
                None => self.wrong_type(name.get_ref(), value, "a string", example),
            }
        }
        Some(map)
    }

    /// A number.
    pub(super) fn bounded<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u64>,
        default: T,
    ) -> T {
        let wanted = format!("a number from {} to {}", allowed.start(), allowed.end());
        let number = self.number(key, &wanted, |n| allowed.contains(&n));
        number.and_then(|n| n.try_into().ok()).unwrap_or(default)
    }

    /// A number of at least one.
    pub(super) fn count<T>(&mut self, key: &'static str, allowed: RangeInclusive<u64>, default: T) -> T
    where
        T: TryFrom<NonZeroU64>,
    {
        NonZeroU64::new(self.bounded(key, allowed, 0))
            .and_then(|n| n.try_into().ok())
            .unwrap_or(default)
    }

    /// A number of at least one, or 0, which stands for "not set".
    pub(super) fn count_or_zero<T>(&mut self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<T>
    where
        T: TryFrom<NonZeroU64>,
    {
        let wanted = format!("0 or a number from {} to {}", allowed.start(), allowed.end());
        let number = self.number(key, &wanted, |n| n == 0 || allowed.contains(&n));
        number.and_then(NonZeroU64::new).and_then(|n| n.try_into().ok())
    }

    /// A number of at least one, or 0, which stands for "no bound".
    pub(super) fn number_or_zero(&mut self, key: &'static str, allowed: RangeInclusive<u64>, default: u32) -> u32 {
        let wanted = format!("0 or a number from {} to {}", allowed.start(), allowed.end());
        let number = self.number(key, &wanted, |n| n == 0 || allowed.contains(&n));
        number.and_then(|n| n.try_into().ok()).unwrap_or(default)
    }

    fn number(&mut self, key: &'static str, wanted: &str, allowed: impl Fn(u64) -> bool) -> Option<u64> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "an integer", wanted);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|n| allowed(*n));
        if number.is_none() {
            self.problem(
                &value.span(),
                format!("{key} = {integer} is out of range; write {wanted}"),
            );
        }
        number
    }

    /// A table within this one.
    pub(super) fn table<T>(&mut self, key: &'static str, body: impl FnOnce(&mut Section<'a>) -> T) -> Option<T> {
        let value = self.value(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table", &format!("{key} = {{ ... }} or [{key}]"));
        }
        Some(Self::read(
            self.source,
            self.title_of(key),
            value.span(),
            Some(table?),
            body,
        ))
    }

    /// A table within this one whose keys all have defaults; absent: it is read as an empty one.
    pub(super) fn table_or_empty<T>(&mut self, key: &'static str, mut body: impl FnMut(&mut Section<'a>) -> T) -> T {
        let value = self.table(key, &mut body);
        value.unwrap_or_else(|| Self::read(self.source, self.title_of(key), self.span(), None, body))
    }

    fn title_of(&self, key: &str) -> String {
        match self.title.as_str() {
            DOCUMENT => format!("[{key}]"),
            title => format!("{key} of {title}"),
        }
    }

    /// An array of tables; absent: empty.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut body: impl FnMut(&mut Section<'a>) -> T,
    ) -> Option<Vec<T>> {
        let Some(value) = self.value(key) else {
            return Some(Vec::new());
        };
        let tables: Option<Vec<_>> = value.get_ref().as_array().and_then(|array| {
            array
                .iter()
                .map(|item| Some((item.span(), item.get_ref().as_table()?)))
                .collect()
        });
        if tables.is_none() {
            self.wrong_type(key, value, "an array of tables", &format!("[[{key}]]"));
        }
        let read = |(span, table)| Self::read(self.source, format!("[[{key}]]"), span, Some(table), &mut body);
        Some(tables?.into_iter().map(read).collect())
    }

    /// A table that is handed on as JSON; absent: empty.
    pub(super) fn json(&mut self, key: &'static str) -> serde_json::Map<String, serde_json::Value> {
        let Some(value) = self.value(key) else {
            return serde_json::Map::new();
        };
        match value.get_ref().as_table() {
            Some(table) => json::object(self.source, table),
            None => {
                self.wrong_type(key, value, "a table", &format!("{key} = {{ ... }} or {key}.NAME = ..."));
                serde_json::Map::new()
            }
        }
    }

    fn texts(&mut self, key: &'static str, example: &str) -> Option<Vec<Spanned<&'a str>>> {
        let value = self.value(key)?;
        let texts = value.get_ref().as_array().and_then(|array| {
            array
                .iter()
                .map(|item| Some(Spanned::new(item.span(), item.get_ref().as_str()?)))
                .collect()
        });
        if texts.is_none() {
            self.wrong_type(key, value, "an array of strings", &format!("{key} = [\"{example}\"]"));
        }
        texts
    }

    fn parse<T>(&self, key: &str, text: &Spanned<&str>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(text.get_ref())
            .map_err(|wrong| self.problem(&text.span(), format!("{key} {:?} {wrong}", text.get_ref())))
            .ok()
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, write: &str) {
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
        self.problem(
            &value.span(),
            format!("{key} must be {wanted}, not {article} {found}; write {write}"),
        );
    }
}

impl<T: Copy> Words<T> {
    /// The value of a word, or what is wrong with it.
    pub(super) fn find(&self, word: &str) -> Result<T, String> {
        let known = self.known.iter().find(|(known, _)| *known == word);
        known.map(|(_, value)| *value).ok_or_else(|| {
            let wrong = if self.later.contains(&word) {
                "is not in this version"
            } else {
                "is unknown"
            };
            format!("{wrong}; write {}", self.list())
        })
    }

    fn list(&self) -> String {
        let quoted: Vec<_> = self.known.iter().map(|(word, _)| format!("{word:?}")).collect();
        match quoted.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}
