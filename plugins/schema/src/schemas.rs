//! Schemas, compiled once.

use boon::{CompileError, Compiler, ErrorKind, SchemaIndex, UrlLoader, ValidationError};
use nervewire_plugin_sdk::prelude::*;
use serde_json::Value;
use std::error::Error;
use std::fmt;

/// Where the files of the plugin are as a reference sees them, so that `"$ref": "NAME"` leads to one.
const FILES: &str = "plugin:///files/";
/// A reason is for people; longer ones are cut off.
const MAX_REASON_BYTES: usize = 256;

/// One of the schemas.
pub(crate) type SchemaId = SchemaIndex;

/// All schemas of the plugin.
pub(crate) struct Schemas(boon::Schemas);

/// Compiles them.
pub(crate) struct Builder<'f> {
    files: &'f Files,
    compiler: Compiler,
    schemas: boon::Schemas,
    inline_schemas: u32,
}

impl<'f> Builder<'f> {
    /// # Errors
    /// What to write instead.
    pub(crate) fn new(files: &'f Files, formats: bool) -> Result<Self, String> {
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nowhere));
        if formats {
            compiler.enable_format_assertions();
        }
        for name in files.names() {
            let text = files.text(name)?;
            let schema: Value =
                serde_json::from_str(text).map_err(|error| format!("file {name:?} is not JSON: {error}"))?;
            let id = schema.get("$id").and_then(Value::as_str);
            // A relative one is not a place of its own.
            if let Some(id) = id.filter(|id| id.contains("://")) {
                add(&mut compiler, id, schema.clone()).map_err(|error| format!("file {name:?}: {error}"))?;
            }
            add(&mut compiler, &format!("{FILES}{name}"), schema).map_err(|error| format!("file {name:?}: {error}"))?;
        }
        Ok(Self {
            files,
            compiler,
            schemas: boon::Schemas::new(),
            inline_schemas: 0,
        })
    }

    /// A schema of the configuration.
    ///
    /// # Errors
    /// Where it is wrong, in words.
    pub(crate) fn inline(&mut self, schema: Value) -> Result<SchemaId, String> {
        self.inline_schemas += 1;
        // Its own directory is the one of the files.
        let place = format!("{FILES}schema-{}", self.inline_schemas);
        add(&mut self.compiler, &place, schema)?;
        self.compile(&place, "schema")
    }

    /// The schema in a file.
    ///
    /// # Errors
    /// Where it is wrong, in words.
    pub(crate) fn file(&mut self, name: &str) -> Result<SchemaId, String> {
        self.files.text(name)?;
        self.compile(&format!("{FILES}{name}"), &format!("file {name:?}"))
    }

    pub(crate) fn finish(self) -> Schemas {
        Schemas(self.schemas)
    }

    fn compile(&mut self, place: &str, name: &str) -> Result<SchemaId, String> {
        self.compiler
            .compile(place, &mut self.schemas)
            .map_err(|error| words(&error).replace(place, name).replace(FILES, ""))
    }
}

fn add(compiler: &mut Compiler, place: &str, schema: Value) -> Result<(), String> {
    compiler.add_resource(place, schema).map_err(|error| words(&error))
}

fn words(error: &CompileError) -> String {
    match error {
        CompileError::LoadUrlError { url, .. } => format!(
            "leads to {}, which is not there: a plugin has no network, so put that schema into a file and name it in this \
             plugin's files; then its name or its $id may be referred to",
            url.strip_prefix(FILES).unwrap_or(url)
        ),
        CompileError::ValidationError { url, src } => {
            format!("{} is no schema: {}", url.trim_end_matches('#'), reason(src))
        }
        other => format!("{other:#}"),
    }
}

impl Schemas {
    /// # Errors
    /// Why the payload is not as the schema says.
    pub(crate) fn check(&self, schema: SchemaId, payload: &[u8]) -> Result<(), String> {
        let value: Value = serde_json::from_slice(payload).map_err(|error| bounded(&format!("not JSON: {error}")))?;
        self.0.validate(&value, schema).map_err(|error| reason(&error))
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schemas").field(&self.0.size()).finish()
    }
}

/// Where the value is wrong and why: the first thing that was found.
fn reason(error: &ValidationError<'_, '_>) -> String {
    let mut deepest = error;
    // Which of several alternatives was meant is not known.
    while !matches!(deepest.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_)) {
        let Some(cause) = deepest.causes.first() else { break };
        deepest = cause;
    }
    bounded(&format!("{}: {}", deepest.instance_location, deepest.kind))
}

/// As a user property may hold it.
fn bounded(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(MAX_REASON_BYTES));
    text
}

/// No reference leads out of the plugin.
struct Nowhere;

impl UrlLoader for Nowhere {
    fn load(&self, url: &str) -> Result<Value, Box<dyn Error>> {
        Err(format!("{url} is not among the files").into())
    }
}
