//! Kernels of a few instructions: they write to the virt machine's UART and end as told.

/// How a program ends.
#[derive(Clone, Copy)]
pub enum Finish {
    /// PSCI SYSTEM_OFF.
    PowerOff,
    /// PSCI SYSTEM_RESET.
    Reset,
    /// It sleeps for ever.
    Sleep,
}

/// An arm64 Image that prints its device tree's bytes (if told to), then a text.
pub fn program(text: &str, tree: bool, finish: Finish) -> Vec<u8> {
    let mut code: Vec<u32> = vec![0xaa00_03e3]; // mov x3, x0 (the device tree)
    code.push(0xd2a1_2000); // mov x0, #0x09000000 (the PL011)
    if tree {
        code.extend([
            0xb940_0464, // ldr w4, [x3, #4] (its size)
            0x5ac0_0884, // rev w4, w4
            0x3840_1462, // 1: ldrb w2, [x3], #1
            0xb900_0002, // str w2, [x0]
            0x7100_0484, // subs w4, w4, #1
            0x54ff_ffa1, // b.ne 1b
        ]);
    }
    let function = match finish {
        Finish::PowerOff => 8,
        Finish::Reset => 9,
        Finish::Sleep => 0, // PSCI_VERSION, which returns
    };
    code.extend([
        0x1000_0001 | (10 << 5),       // adr x1, text (ten instructions on)
        0x3840_1422,                   // 1: ldrb w2, [x1], #1
        0x3400_0062,                   // cbz w2, 2f
        0xb900_0002,                   // str w2, [x0]
        0x17ff_fffd,                   // b 1b
        0x5280_0000 | (function << 5), // 2: mov w0, #function
        0x72b0_8000,                   // movk w0, #0x8400, lsl #16
        0xd400_0002,                   // hvc #0
        0xd503_207f,                   // 3: wfi
        0x17ff_ffff,                   // b 3b
    ]);
    let mut image = vec![0; 64];
    image[0..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes()); // b 0x40
    image[0x10..0x18].copy_from_slice(&0x10_0000_u64.to_le_bytes()); // its size in memory
    image[0x18] = 0x0a; // little endian, 4 KiB pages, anywhere
    image[0x38..0x3c].copy_from_slice(b"ARMd");
    image.extend(code.iter().flat_map(|word| word.to_le_bytes()));
    image.extend(text.as_bytes());
    image.push(0);
    image
}
