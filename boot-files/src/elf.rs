//! What a program needs at run time, read from its ELF headers.

use anyhow::{Context, Result, ensure};
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, EM_AARCH64, FileHeader64, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// The run-time needs of an arm64 program or library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The dynamic loader.
    pub interpreter: Option<String>,
    /// Libraries, by soname.
    pub needed: Vec<String>,
    /// Folders to look for them first; `$ORIGIN` is the file's own.
    pub runpath: Vec<String>,
}

impl Elf {
    /// Whether it runs without any other file.
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none() && self.needed.is_empty()
    }
}

/// Reads the ELF headers; `None` if the bytes are no ELF file.
///
/// # Errors
/// If it is damaged, or not for arm64.
pub fn parse(data: &[u8]) -> Result<Option<Elf>> {
    if !data.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let kind = FileKind::parse(data).context("reading the ELF header")?;
    ensure!(kind == FileKind::Elf64, "is an ELF file, but not a 64-bit one");
    let file = ElfFile::<FileHeader64<Endianness>>::parse(data).context("reading the ELF headers")?;
    let endian = file.endian();
    ensure!(
        file.elf_header().e_machine(endian) == EM_AARCH64 && endian == Endianness::Little,
        "is an ELF file, but not for arm64"
    );
    let mut elf = Elf::default();
    let mut dynamic = false;
    for segment in file.elf_program_headers() {
        dynamic |= segment.p_type(endian) == PT_DYNAMIC;
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.interpreter(endian, data).context("reading the ELF interpreter")?;
            elf.interpreter = path.map(text).transpose()?;
        }
    }
    let table = file.elf_dynamic_table().context("reading the ELF dynamic table")?;
    ensure!(!dynamic || !table.is_empty(), "is an ELF file whose section headers were cut off");
    for entry in table.iter() {
        if entry.tag == DT_NEEDED {
            elf.needed.push(text(table.string(entry)?)?);
        } else if entry.tag == DT_RUNPATH || entry.tag == DT_RPATH {
            elf.runpath.extend(text(table.string(entry)?)?.split(':').map(str::to_owned));
        }
    }
    Ok(Some(elf))
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(std::str::from_utf8(bytes).context("reading a name in an ELF file")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_host_s_own_programs_are_refused_or_read() {
        let shell = parse(&std::fs::read("/bin/sh").unwrap());
        if cfg!(target_arch = "aarch64") {
            assert!(shell.unwrap().unwrap().needed.iter().any(|name| name == "libc.so.6"));
        } else {
            assert!(shell.unwrap_err().to_string().contains("not for arm64"));
        }
        assert_eq!(parse(b"#!/bin/sh\n").unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut data = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xb7\0".to_vec();
            data.extend(tail);
            let _ = parse(&data);
        }
    }
}
