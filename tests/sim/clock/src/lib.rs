//! Seeded simulation of clocks and networks in which true time is known exactly.
//!
//! [`world`] runs one machine: an [`oscillator`], [`network`] paths to servers, and a [`client`] that asks them as the
//! daemon does. [`scenario`] says which worlds there are, [`reference`] scores predictors in those that were measured
//! with chronyd, and [`campaign`] holds the discipline to what it promises in all of them. `docs/clock-simulator.md`
//! has the models with their sources.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod client;
pub mod judge;
pub mod network;
pub mod oscillator;
pub mod random;
pub mod reference;
pub mod scenario;
pub mod world;
