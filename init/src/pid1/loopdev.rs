//! Loop devices: a file as a read-only block device (loop(4); `LOOP_CONFIGURE` since Linux 5.8).
//!
//! Our own, since the crates for it need a C compiler's headers or know only the older calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::ioctl::{Opcode, Setter, ioctl};

/// `include/uapi/linux/loop.h`.
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config`: 304 bytes.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// `struct loop_info64`: 232 bytes.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// A loop device over `file`. It goes away by itself with its last user: keep the returned file open until it is mounted.
///
/// # Errors
/// When no device is free or the kernel refuses the file.
pub fn attach(file: &Path) -> Result<(PathBuf, File)> {
    let backing = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    let control = control.context("opening /dev/loop-control (is the module loop loaded?)")?;
    // Another process may take the free device first: then ask again.
    for _ in 0..16 {
        let number = free_number(&control).context("asking for a free loop device")?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        match configure(&device, &backing) {
            Ok(()) => return Ok((path, device)),
            Err(rustix::io::Errno::BUSY) => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("putting {} on {}", file.display(), path.display()));
            }
        }
    }
    bail!("every free loop device was taken by somebody else")
}

fn free_number(control: &File) -> io::Result<i32> {
    // libc's ioctl(2) is not used: rustix gives a call's result only to an `Ioctl` of one's own.
    struct GetFree;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the number as its result.
    #[allow(unsafe_code, reason = "an ioctl that returns its value as its result")]
    unsafe impl rustix::ioctl::Ioctl for GetFree {
        type Output = i32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> Opcode {
            LOOP_CTL_GET_FREE
        }
        fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(
            result: rustix::ioctl::IoctlOutput,
            _: *mut rustix::ffi::c_void,
        ) -> rustix::io::Result<i32> {
            Ok(result)
        }
    }
    // SAFETY: as above; the file is /dev/loop-control.
    #[allow(unsafe_code, reason = "an ioctl")]
    let number = unsafe { ioctl(control, GetFree) }?;
    Ok(number)
}

fn configure(device: &File, backing: &File) -> rustix::io::Result<()> {
    let config = LoopConfig {
        fd: backing.as_raw_fd() as u32,
        block_size: 0,
        info: LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one struct loop_config, whose layout and size are asserted above.
    #[allow(unsafe_code, reason = "an ioctl")]
    unsafe {
        ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config))
    }
}
