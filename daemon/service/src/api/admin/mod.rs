//! The routes of the tenant's admin.

mod keys;

use super::App;
use axum::Router;

pub(super) fn routes() -> Router<App> {
    keys::routes()
}
