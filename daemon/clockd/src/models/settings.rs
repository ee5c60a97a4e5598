//! The models of the configuration: `[[models]]` tables.

use crate::models::RateModel;
#[cfg(feature = "onnx")]
use crate::models::onnx::OnnxModel;
use crate::models::process::ProcessModel;
use serde::Deserialize;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

/// More would be a mistake rather than a wish.
const MOST: usize = 8;
/// Letters in a name.
const LONGEST_NAME: usize = 64;

/// A table as it is written.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelTable {
    /// What it is called in the status, in metrics and in the log. If not given, its kind and its place in the list.
    name: Option<String>,
    /// `process` or `onnx`.
    kind: Kind,
    /// Of a process: the Unix socket where it listens.
    socket: Option<PathBuf>,
    /// Of an ONNX model: the file.
    file: Option<PathBuf>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Process,
    Onnx,
}

/// A model to run.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ModelSpec {
    /// What it is called; no two have the same name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) place: Place,
}

/// Where a model is.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Place {
    /// A process that listens at this Unix socket.
    Process(PathBuf),
    /// An ONNX file.
    Onnx(PathBuf),
}

impl ModelSpec {
    /// `process` or `onnx`.
    pub(crate) fn kind_word(&self) -> &'static str {
        match self.place {
            Place::Process(_) => "process",
            Place::Onnx(_) => "onnx",
        }
    }

    /// Makes it ready to be asked. May be slow.
    pub(crate) fn open(&self) -> Result<Box<dyn RateModel>, String> {
        match &self.place {
            Place::Process(socket) => Ok(Box::new(ProcessModel::new(socket.clone()))),
            #[cfg(feature = "onnx")]
            Place::Onnx(file) => Ok(Box::new(OnnxModel::load(file)?)),
            #[cfg(not(feature = "onnx"))]
            Place::Onnx(_) => Err(WITHOUT_ONNX.to_owned()),
        }
    }

    /// What can be checked before it runs: an ONNX file is loaded, a process may be started later. The error is for the
    /// user.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.open().map(drop).map_err(|e| format!("model {}: {e}", self.name))
    }
}

const WITHOUT_ONNX: &str = "this binary was built without ONNX: build it with `cargo build --release --package \
                            chronotick-daemon --features onnx`, or run the model as a process";

/// Reads the tables. The error is for the user.
pub(crate) fn read(tables: Vec<ModelTable>) -> Result<Vec<ModelSpec>, String> {
    if tables.len() > MOST {
        return Err(format!("there are {} `[[models]]`: give at most {MOST}", tables.len()));
    }
    let mut specs: Vec<ModelSpec> = Vec::new();
    for (i, table) in tables.into_iter().enumerate() {
        let spec = spec(i, table)?;
        if specs.iter().any(|s| s.name == spec.name) {
            return Err(format!("two models are called {}: give each its own `name`", spec.name));
        }
        specs.push(spec);
    }
    Ok(specs)
}

fn spec(i: usize, table: ModelTable) -> Result<ModelSpec, String> {
    let kind = match table.kind {
        Kind::Process => "process",
        Kind::Onnx => "onnx",
    };
    let name = table.name.unwrap_or_else(|| format!("{kind}{}", i + 1));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        return Err(format!(
            "the model {name:?} needs another `name`: up to {LONGEST_NAME} letters, digits, dots, dashes and underscores"
        ));
    }
    let place = match (table.kind, table.socket, table.file) {
        (Kind::Process, Some(socket), None) => {
            SocketAddr::from_pathname(&socket)
                .map_err(|e| format!("model {name}: `socket` is {}: {e}", socket.display()))?;
            Place::Process(socket)
        }
        (Kind::Process, ..) => {
            return Err(format!(
                "model {name}: a process needs `socket`, the path where it listens, and no `file`"
            ));
        }
        (Kind::Onnx, ..) if cfg!(not(feature = "onnx")) => {
            return Err(format!("model {name}: {WITHOUT_ONNX}"));
        }
        (Kind::Onnx, None, Some(file)) => Place::Onnx(file),
        (Kind::Onnx, ..) => {
            return Err(format!("model {name}: an ONNX model needs `file`, its path, and no `socket`"));
        }
    };
    Ok(ModelSpec { name, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        models: Vec<ModelTable>,
    }

    fn load(text: &str) -> Result<Vec<ModelSpec>, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        read(file.models)
    }

    const PROCESS: &str = "[[models]]\nkind = 'process'\nsocket = '/s'\n";

    #[test]
    fn tables_become_models() {
        let specs = load(&format!("{PROCESS}name = 'my.model-1_a'\n{PROCESS}")).unwrap();
        let names: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["my.model-1_a", "process2"]);
        assert_eq!((specs[0].kind_word(), &specs[0].place), ("process", &Place::Process("/s".into())));
        assert_eq!(load(&PROCESS.repeat(8)).unwrap().len(), 8);
        specs[0].check().unwrap();
    }

    #[test]
    fn bad_tables_say_what_to_do() {
        let check = |text: &str, wanted: &[&str]| {
            let message = load(text).expect_err(text);
            for want in wanted {
                assert!(message.contains(want), "{text:?}: {message}");
            }
        };
        check(&PROCESS.repeat(9), &["9", "at most 8"]);
        check(&format!("{PROCESS}name = 'a'\n{PROCESS}name = 'a'\n"), &["two models are called a"]);
        check(&format!("{PROCESS}name = 'a b'\n"), &["\"a b\"", "letters"]);
        check(&format!("{PROCESS}name = ''\n"), &["letters"]);
        check(&format!("{PROCESS}file = '/f'\n"), &["process1", "no `file`"]);
        check("[[models]]\nkind = 'process'\n", &["needs `socket`"]);
        check(
            &format!("[[models]]\nkind = 'process'\nsocket = '/{}'\n", "x".repeat(120)),
            &["process1", "path"],
        );
        check("[[models]]\nkind = 'oracle'\n", &["oracle", "`onnx`"]);
        check("[[models]]\nsocket = '/s'\n", &["kind"]);
        check(&format!("{PROCESS}sockets = 1\n"), &["sockets"]);
        if cfg!(feature = "onnx") {
            check("[[models]]\nkind = 'onnx'\nsocket = '/s'\n", &["onnx1", "needs `file`"]);
            let spec = load("[[models]]\nkind = 'onnx'\nfile = '/nowhere.onnx'\n").unwrap().remove(0);
            assert!(spec.check().unwrap_err().contains("/nowhere.onnx"));
        } else {
            check("[[models]]\nkind = 'onnx'\nfile = '/f'\n", &["onnx1", "--features onnx"]);
        }
    }
}
