//! The section `[secrets]`: where the master key comes from.

use crate::secrets::{Master, SealError};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The section `[secrets]`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSection {
    /// A file with 32 bytes in base64.
    pub master_key_file: Option<PathBuf>,
    /// The file of the key before, while a rotation is under way.
    pub previous_master_key_file: Option<PathBuf>,
    /// A program with its arguments that wraps and unwraps keys.
    pub master_key_command: Option<Vec<String>>,
    /// MINOOTS_MASTER_KEY; not a key of the file.
    #[serde(skip)]
    pub from_env: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for SecretsSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsSection")
            .field("master_key_file", &self.master_key_file)
            .field("master_key_command", &self.master_key_command.as_ref().map(|c| c.first().cloned()))
            .field("from_env", &self.from_env.as_ref().map(|_| "set"))
            .finish_non_exhaustive()
    }
}

impl SecretsSection {
    /// The master key, if there is one: the program over the environment over the file.
    pub fn master(&self) -> Result<Option<Arc<Master>>, String> {
        let previous = self.previous_master_key_file.as_deref().map(read).transpose()?;
        let previous = previous.as_ref().map(|text| text.as_str());
        let told = |e: SealError| e.to_string();
        if let Some(command) = &self.master_key_command {
            return Ok(Some(Arc::new(Master::program(command.clone()))));
        }
        if let Some(text) = &self.from_env {
            return Ok(Some(Arc::new(Master::from_text(text, previous).map_err(told)?)));
        }
        let Some(path) = &self.master_key_file else { return Ok(None) };
        let master = Master::from_text(&read(path)?, previous);
        Ok(Some(Arc::new(master.map_err(|e| format!("{}: {e}", path.display()))?)))
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|e| format!("cannot read the master key {}: {e}", path.display()))
}
