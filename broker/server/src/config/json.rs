//! TOML values as JSON: how a plugin gets its `config` table.

use super::error::Source;
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table as an object. Numbers that JSON does not know are problems of the file.
pub(super) fn object(source: &Source<'_>, table: &DeTable<'_>) -> Map<String, Value> {
    table
        .iter()
        .map(|(key, item)| (key.get_ref().to_string(), value(source, item)))
        .collect()
}

fn value(source: &Source<'_>, toml: &Spanned<DeValue<'_>>) -> Value {
    match toml.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(array) => array.iter().map(|item| value(source, item)).collect(),
        DeValue::Table(table) => object(source, table).into(),
        DeValue::Integer(integer) => {
            let integer = i64::from_str_radix(integer.as_str(), integer.radix());
            number(
                source,
                toml,
                integer.ok().map(Number::from),
                "a number of at most 64 bits",
            )
        }
        DeValue::Float(float) => {
            let float = float.as_str().parse().ok().and_then(Number::from_f64);
            number(source, toml, float, "a finite number")
        }
    }
}

fn number(source: &Source<'_>, toml: &Spanned<DeValue<'_>>, number: Option<Number>, wanted: &str) -> Value {
    if number.is_none() {
        source.problem(
            &toml.span(),
            format!("this number cannot be handed to a plugin; write {wanted}"),
        );
    }
    number.map_or(Value::Null, Value::Number)
}
