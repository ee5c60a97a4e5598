//! Where the clock page is: the name of the shared-memory object, from an argument, the environment or the default.

use crate::error::AttachError;
use std::path::{Path, PathBuf};

/// The object's name when nothing else is said.
pub const DEFAULT: &str = "chronotick_shm";
/// The environment variable that overrides it, with a name or an absolute path.
pub const ENV: &str = "CHRONOTICK_SHM";
/// Where POSIX shared-memory objects live on Linux.
const SHM_DIR: &str = "/dev/shm";

/// The path of the page: `name` if given, else `$CHRONOTICK_SHM`, else the default name. A name is one path
/// component, with or without a leading slash; anything else must be an absolute path.
pub fn resolve(name: Option<&str>) -> Result<PathBuf, AttachError> {
    match name {
        Some(name) => from_name(name),
        None => match std::env::var(ENV) {
            Ok(name) if !name.is_empty() => from_name(&name),
            _ => from_name(DEFAULT),
        },
    }
}

fn from_name(name: &str) -> Result<PathBuf, AttachError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let invalid = bare.is_empty() || bare == "." || bare == ".." || name.contains('\0');
    match (invalid, bare.contains('/')) {
        (false, false) => Ok(Path::new(SHM_DIR).join(bare)),
        (false, true) if name.starts_with('/') => Ok(PathBuf::from(name)),
        _ => Err(AttachError::BadName { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_absolute_paths() {
        let check = |name: &str, want: Option<&str>| {
            assert_eq!(resolve(Some(name)).ok(), want.map(PathBuf::from), "{name:?}");
        };
        check("chronotick_shm", Some("/dev/shm/chronotick_shm"));
        check("/chronotick_shm", Some("/dev/shm/chronotick_shm"));
        check("/run/clock/page", Some("/run/clock/page"));
        check("a/b", None);
        check("", None);
        check("..", None);
        check("/", None);
        check("a\0b", None);
    }
}
