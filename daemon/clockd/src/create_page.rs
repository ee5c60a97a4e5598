//! The verb `create-page`: makes the page for a daemon that runs as another user.
//!
//! Readers accept pages of root or of their own user only. A daemon without privileges can serve everybody if root
//! makes the page and lets the daemon's group write it; the systemd unit does so before each start.

use crate::cli::CreatePageArgs;
use crate::page_object::PageObject;
use crate::publisher::first_record;
use crate::status_file::path_of;
use chronotick_core::Span;

/// Makes the page, or leaves the one that is there as it is, and sets its mode. The error is for the user.
pub(crate) fn create_page(args: &CreatePageArgs) -> Result<(), String> {
    let path = chronotick::name::resolve(args.shm.as_deref()).map_err(|e| e.to_string())?;
    let page = PageObject::open(&path, &first_record(Span::from_secs(2))).map_err(|e| e.to_string())?;
    page.set_mode(args.mode)
        .map_err(|e| format!("cannot set the mode of {}: {e}; check its owner", path.display()))?;
    // The daemon could not replace one that was written by a daemon of this user.
    let _ = std::fs::remove_file(path_of(&path));
    Ok(())
}

/// A mode in octal that lets everybody read, and nobody but owner and group write.
pub(crate) fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (0o644 | 0o664)) => Ok(mode),
        _ => Err("give 0644, or 0664 to let the group write".to_owned()),
    }
}
