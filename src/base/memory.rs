//! What is asked of the system about this process's memory.

/// Gives the memory back to the system that only the start has used: what is free in the allocator, a megabyte, and the pages
/// of the host's code, of which most are not needed again; those that are come back from the file.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the system has no other way to be asked")]
pub fn give_back() {
    // SAFETY: `malloc_trim` may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(mappings) = std::fs::read_to_string("/proc/self/maps") else { return };
    let here = give_back as fn() as usize;
    let range = mappings.lines().filter(|line| line.contains(" r-xp ")).find_map(|line| {
        let (begin, end) = line.split_once(' ')?.0.split_once('-')?;
        let range = usize::from_str_radix(begin, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&here).then_some(range)
    });
    if let Some(range) = range {
        // SAFETY: the range is a mapping of code from a file, which nothing ever writes: what is read again is the same.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
