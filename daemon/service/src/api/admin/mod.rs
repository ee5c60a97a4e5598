//! The routes of the tenant's admin.

pub(super) mod keys;

use super::App;
use axum::Router;

pub(super) fn routes() -> Router<App> {
    keys::routes()
}
