//! Writes `include/chronotick.h` from the Rust sources and the example of a rate model, or checks that the committed ones
//! are what the sources say.

use anyhow::{Context, bail};
use cbindgen::{Builder, Config, EnumConfig, Language, RenameRule, Style};
use std::collections::HashMap;
use std::path::Path;

/// Where the header is, from the root of the repository.
const HEADER: &str = "include/chronotick.h";

/// The files whose public items are the C API, in the order in which they appear in the header. The last two are the
/// core's own page, source and status: there is one definition of each.
const SOURCES: [&str; 8] = [
    "ffi-c/src/error.rs",
    "ffi-c/src/types.rs",
    "ffi-c/src/client.rs",
    "ffi-c/src/evaluate.rs",
    "ffi-c/src/names.rs",
    "ffi-c/src/verify.rs",
    "core/src/page/layout.rs",
    "core/src/page/reading.rs",
];

/// Rust's names and C's.
const NAMES: [(&str, &str); 11] = [
    ("ChronotickError", "chronotick_error"),
    ("ChronotickClient", "chronotick_client"),
    ("ChronotickReading", "chronotick_reading"),
    ("ChronotickWaited", "chronotick_waited"),
    ("ChronotickOrder", "chronotick_order"),
    ("ChronotickClocks", "chronotick_clocks"),
    ("PageLayout", "chronotick_page"),
    ("Source", "chronotick_source"),
    ("Status", "chronotick_status"),
    ("PAGE_SIZE", "CHRONOTICK_PAGE_SIZE"),
    ("Flags", "CHRONOTICK_FLAG"),
];

/// What cbindgen writes and C readers should see: the one error that is none, and the links of the core's documentation.
const WORDING: [(&str, &str); 5] = [
    ("CHRONOTICK_ERROR_OK", "CHRONOTICK_OK"),
    ("See [`Flags`]", "CHRONOTICK_FLAG_..., ored; bits 16-23 disruption count, 24-31 TAI minus UTC"),
    ("See [`Source`]", "A number of enum chronotick_source"),
    ("See [`MAGIC`]", "'C', 'T', 2; anything else is an old page"),
    ("see [`AnchorClock`]", "0 none, 1 BOOTTIME, 2 MONOTONIC_RAW, 3 counter"),
];

/// Constants of the core that C has no use for.
const NOT_EXPORTED: [&str; 6] =
    ["WORDS", "SEQUENCE_WORD", "MAGIC_WORD", "MAGIC", "WITHDRAWN_UNCERTAINTY_S", "PHI"];

const PREAMBLE: &str = "\
/*
 * chronotick: corrected time with a hard bound, read from the clock page in shared memory.
 *
 * The contract of these functions, and a complete program, are in ffi-c/README.md.
 * Written by `cargo xtask gen`; change the Rust sources, not this file.
 */";

const ALIGN: &str = "
#if defined(__GNUC__) || defined(__clang__)
#define CHRONOTICK_ALIGN(n) __attribute__((aligned(n)))
#else
#error \"chronotick.h needs a compiler with __attribute__((aligned))\"
#endif";

/// What `cargo xtask gen` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail if the committed file is not what the sources say.
    #[arg(long)]
    check: bool,
}

/// Writes the files, or checks them.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = crate::repository();
    let files = [(HEADER, header(&root)?.into_bytes()), (crate::onnx::FILE, crate::onnx::model())];
    for (name, content) in files {
        let path = root.join(name);
        if !arguments.check {
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            continue;
        }
        let committed = std::fs::read(&path)
            .with_context(|| format!("cannot read {}; run `cargo xtask gen`", path.display()))?;
        if committed != content {
            bail!("{name} is not what the sources say: run `cargo xtask gen` and commit it");
        }
    }
    // A unit test of the service checks the copy of its document; the service is slow to build.
    if !arguments.check {
        let command = ["run", "--quiet", "--package", "minoots", "--example", "openapi"];
        let made = std::process::Command::new("cargo").args(command).current_dir(&root).output()?;
        if !made.status.success() {
            bail!("`cargo {}` failed: {}", command.join(" "), String::from_utf8_lossy(&made.stderr));
        }
        std::fs::write(root.join("docs/api/openapi.json"), made.stdout)
            .context("cannot write openapi.json")?;
    }
    Ok(())
}

fn header(root: &Path) -> anyhow::Result<String> {
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        cpp_compat: true,
        header: Some(PREAMBLE.to_owned()),
        include_guard: Some("CHRONOTICK_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        after_includes: Some(ALIGN.to_owned()),
        line_length: 110,
        tab_width: 4,
        usize_is_size_t: true,
        enumeration: EnumConfig {
            rename_variants: RenameRule::QualifiedScreamingSnakeCase,
            ..EnumConfig::default()
        },
        ..Config::default()
    };
    config.layout.aligned_n = Some("CHRONOTICK_ALIGN".to_owned());
    // Nothing in the API takes a page's bytes as this type, so it must be asked for.
    config.export.include = vec!["PageLayout".to_owned()];
    config.export.exclude = NOT_EXPORTED.map(str::to_owned).to_vec();
    config.export.rename = HashMap::from(NAMES.map(|(rust, c)| (rust.to_owned(), c.to_owned())));

    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join(source));
    }
    let bindings = builder.generate().context("cbindgen cannot read the sources")?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let mut header = String::from_utf8(bytes).context("cbindgen wrote no UTF-8")?;
    for (from, to) in WORDING {
        header = header.replace(from, to);
    }
    only_our_names(&header)?;
    Ok(header)
}

/// A constant added to the core would otherwise reach every C program under a name such as `WORDS`; nor do links of
/// Rust's documentation belong in the header.
fn only_our_names(header: &str) -> anyhow::Result<()> {
    for line in header.lines() {
        if line.contains("[`") {
            bail!("{line:?} has a link that C readers cannot follow: add it to WORDING in xtask/src/gen.rs");
        }
        if let Some(name) = line.strip_prefix("#define ")
            && !name.starts_with("CHRONOTICK_")
        {
            bail!("the header would define {name:?}: rename or exclude it in xtask/src/gen.rs");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_is_refused() {
        let refused = only_our_names("#define WORDS 16\n").unwrap_err().to_string();
        assert!(refused.contains("WORDS 16"), "{refused}");
        assert!(only_our_names("#define CHRONOTICK_PAGE_SIZE 128\n").is_ok());
    }

    #[test]
    fn the_committed_header_is_fresh() {
        run(&Arguments { check: true }).unwrap();
    }
}
