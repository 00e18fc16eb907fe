//! `pieeprom.bin`. The input is the start of an image; the rest is erased flash, as no input has a real one's 512 KiB.
#![no_main]

use boot_files::eeprom::image::{BOOTCONF, Image, LARGEST, PUBKEY, SMALLEST};
use boot_files::eeprom::image_check::{Expected, check};

libfuzzer_sys::fuzz_target!(|input: (bool, &[u8])| {
    let (large, start) = input;
    let mut bytes = start.to_vec();
    bytes.resize(if large { LARGEST } else { SMALLEST }, 0xff);
    let Ok(before) = Image::parse(bytes) else { return };
    let _ = check(&before, Expected::default());
    for name in [BOOTCONF, PUBKEY] {
        let mut after = before.clone();
        let Ok(()) = after.replace(name, b"BOOT_ORDER=0xf17\n") else { continue };
        assert_eq!(after.file(name), Some(&b"BOOT_ORDER=0xf17\n"[..]));
        assert_eq!(after.bytes().len(), before.bytes().len());
        let content = |image: &Image| image.sections().iter().filter(|it| !it.name.is_empty()).count();
        assert_eq!(content(&after), content(&before), "no file is lost");
    }
});
