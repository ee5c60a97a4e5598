//! Gives the shared library its soname: programs then ask for the ABI they were linked with, not for a file name.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // 0 is the ABI's number: it changes when a program must be compiled again, and never otherwise.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libchronotick.so.0");
    }
}
