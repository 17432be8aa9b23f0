//! A guest that asks for what it must not get, and one that asks properly.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use shared_abi::layout::{HIGH_RAM_GPA, PAGE_SIZE, ROOT_GPA};
use shared_abi::stdio::StdioRequest;

use super::*;
use crate::root::{Content, Image, Piece};

const RAM: u64 = 1 << 20;
const REQUEST: u64 = 0x1000;
const BUFFER: u64 = 0x8000;
const IN_ROOT: &[u8] = b"from the root image";

/// A doorbell whose streams are pipes.
struct Bell {
    device: Stdio,
    memory: Arc<Memory>,
    counts: Arc<ByteCounts>,
    stdin: std::io::PipeWriter,
    stdout: std::io::PipeReader,
    _ends: (std::io::PipeReader, std::io::PipeWriter),
}

fn bell() -> Bell {
    let pieces = vec![Piece { offset: 0, content: Content::Bytes(IN_ROOT.to_vec()) }];
    let image = Image { len: 2 * PAGE_SIZE, pieces };
    let memory = Arc::new(Memory::new(RAM, &image).expect("a little memory"));
    let (stdin_end, stdin) = std::io::pipe().expect("a pipe");
    let (stdout, stdout_end) = std::io::pipe().expect("a pipe");
    let input = Input::new(stdin_end.as_raw_fd(), false).expect("an eventfd");
    let counts = Arc::new(ByteCounts::default());
    let mut device = Stdio::new(memory.clone(), Arc::new(input), counts.clone());
    device.outputs = [stdout_end.as_raw_fd(); 2];
    Bell { device, memory, counts, stdin, stdout, _ends: (stdin_end, stdout_end) }
}

impl Bell {
    /// Stores a request at `gpa` and rings; the answer.
    fn ring_at(&mut self, gpa: u64, op: u32, stream: u32, segments: &[(u64, u64)]) -> i64 {
        let mut bytes = Vec::new();
        for word in [op, stream, 0, 0, 0, segments.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for &(gpa, len) in segments {
            bytes.extend_from_slice(&gpa.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        self.memory.write(gpa, &bytes).expect("the request is in RAM");
        self.device.write(0, &(gpa as u32).to_le_bytes());
        self.result(gpa)
    }

    fn ring(&mut self, op: u32, stream: u32, segments: &[(u64, u64)]) -> i64 {
        self.ring_at(REQUEST, op, stream, segments)
    }

    fn result(&self, gpa: u64) -> i64 {
        let mut bytes = [0; 8];
        self.memory.read(gpa + RESULT_OFFSET, &mut bytes).expect("the request is in RAM");
        i64::from_le_bytes(bytes)
    }

    /// What has come out, which is known to be `len` bytes.
    fn output(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stdout.read_exact(&mut bytes).expect("the output");
        bytes
    }
}

const EINVAL: i64 = -(libc::EINVAL as i64);
const EFAULT: i64 = -(libc::EFAULT as i64);
const EAGAIN: i64 = -(libc::EAGAIN as i64);

#[test]
fn segments_are_written_in_order_from_ram_and_root() {
    let mut bell = bell();
    bell.memory.write(BUFFER, b"abcdef").expect("RAM");
    let segments = [(BUFFER + 3, 3), (ROOT_GPA + 5, 8), (BUFFER, 0), (BUFFER, 3)];
    assert_eq!(bell.ring(OP_WRITE, STDOUT, &segments), 14);
    assert_eq!(bell.output(14), b"defthe rootabc");
    assert_eq!(bell.ring(OP_WRITE, STDERR, &[(BUFFER, 6)]), 6);
    assert_eq!(bell.output(6), b"abcdef");
    assert_eq!(bell.counts.get(), [0, 14, 6]);
}

#[test]
fn input_fills_the_segments_and_its_absence_is_eagain() {
    let mut bell = bell();
    assert_eq!(bell.ring(OP_READ, STDIN, &[(BUFFER, 100)]), EAGAIN);
    assert_eq!(bell.device.input.arm.read().expect("armed"), 1);
    bell.stdin.write_all(b"hello").expect("room");
    assert_eq!(bell.ring(OP_READ, STDIN, &[(BUFFER, 2), (BUFFER + 0x1000, 100)]), 5);
    let mut bytes = [0; 3];
    bell.memory.read(BUFFER + 0x1000, &mut bytes).expect("RAM");
    assert_eq!(&bytes, b"llo");
    assert_eq!(bell.counts.get(), [5, 0, 0]);
}

#[test]
fn the_end_of_input_is_zero_bytes() {
    let mut bell = bell();
    (_, bell.stdin) = std::io::pipe().expect("a pipe");
    assert_eq!(bell.ring(OP_READ, STDIN, &[(BUFFER, 100)]), 0);
}

#[test]
fn segments_outside_of_ram_are_refused_and_nothing_is_moved() {
    let mut bell = bell();
    let outside = [
        (RAM, 1),
        (RAM - 1, 2),
        (HIGH_RAM_GPA, 1),
        (0xfee0_0000, 4),
        (ROOT_GPA - 1, 2),
        (ROOT_GPA + 2 * PAGE_SIZE - 1, 2),
        (ROOT_GPA + 2 * PAGE_SIZE, 1),
        (u64::MAX, 1),
        (u64::MAX - 7, 8),
        (BUFFER, u64::MAX),
        (BUFFER, u64::MAX - BUFFER + 1),
        (BUFFER, u64::MAX - BUFFER + 2),
        (ROOT_GPA + 1, u64::MAX),
        (BUFFER, 1 << 63),
    ];
    bell.stdin.write_all(b"input").expect("room");
    for segment in outside {
        for segments in [&[segment][..], &[(BUFFER, 4), segment], &[segment, (BUFFER, 4)]] {
            assert_eq!(bell.ring(OP_WRITE, STDOUT, segments), EFAULT, "{segments:x?}");
            assert_eq!(bell.ring(OP_READ, STDIN, segments), EFAULT, "{segments:x?}");
        }
    }
    assert_eq!(bell.counts.get(), [0; 3]);
}

#[test]
fn input_never_goes_into_the_root_image() {
    let mut bell = bell();
    bell.stdin.write_all(b"input").expect("room");
    assert_eq!(bell.ring(OP_READ, STDIN, &[(ROOT_GPA, 5)]), EFAULT);
    assert_eq!(bell.ring(OP_READ, STDIN, &[(BUFFER, 1), (ROOT_GPA, 5)]), EFAULT);
    assert_eq!(bell.ring(OP_WRITE, STDOUT, &[(ROOT_GPA, IN_ROOT.len() as u64)]), 19);
    assert_eq!(bell.output(19), IN_ROOT);
}

#[test]
fn a_request_that_is_not_in_ram_gets_no_answer() {
    let mut bell = bell();
    for gpa in [RAM as u32, u32::MAX, RAM as u32 - HEADER_LEN as u32 + 1, 0xfee0_0000] {
        bell.device.write(0, &gpa.to_le_bytes());
    }
}

#[test]
fn a_request_may_end_where_ram_ends_and_not_later() {
    let mut bell = bell();
    let header_only = RAM - HEADER_LEN as u64;
    assert_eq!(bell.ring_at(header_only, OP_WRITE, STDOUT, &[]), 0);
    let whole = header_only - SEGMENT_LEN as u64;
    assert_eq!(bell.ring_at(whole, OP_WRITE, STDOUT, &[(ROOT_GPA, 4)]), 4);
    // One segment more than there is room for.
    bell.memory.write(whole + 20, &2u32.to_le_bytes()).expect("RAM");
    bell.device.write(0, &(whole as u32).to_le_bytes());
    assert_eq!(bell.result(whole), EFAULT);
}

#[test]
fn too_many_segments_are_refused() {
    let mut bell = bell();
    let segments = [(BUFFER, 1); SEGMENT_COUNT_MAX];
    assert_eq!(bell.ring(OP_WRITE, STDOUT, &segments), SEGMENT_COUNT_MAX as i64);
    for count in [SEGMENT_COUNT_MAX as u32 + 1, u32::MAX] {
        bell.memory.write(REQUEST + 20, &count.to_le_bytes()).expect("RAM");
        bell.device.write(0, &(REQUEST as u32).to_le_bytes());
        assert_eq!(bell.result(REQUEST), EINVAL);
    }
}

#[test]
fn unknown_operations_and_streams_are_refused() {
    let mut bell = bell();
    let known = [OP_READ, OP_WRITE, OP_WINSIZE];
    for op in (0..16).chain([u32::MAX]).filter(|op| !known.contains(op)) {
        assert_eq!(bell.ring(op, STDOUT, &[(BUFFER, 1)]), EINVAL, "operation {op}");
    }
    for (op, stream) in [
        (OP_READ, STDOUT),
        (OP_READ, STDERR),
        (OP_READ, 3),
        (OP_READ, u32::MAX),
        (OP_WRITE, STDIN),
        (OP_WRITE, 3),
        (OP_WRITE, u32::MAX),
    ] {
        assert_eq!(bell.ring(op, stream, &[(BUFFER, 1)]), EINVAL, "{op} on stream {stream}");
    }
    for stream in [3, u32::MAX] {
        assert_eq!(bell.ring(OP_WINSIZE, stream, &[]), -i64::from(libc::ENOTTY));
    }
}

#[test]
fn accesses_of_another_width_do_nothing_and_reads_give_all_ones() {
    let mut bell = bell();
    bell.ring(OP_WRITE, STDOUT, &[(BUFFER, 1)]);
    let request = (REQUEST as u32).to_le_bytes();
    for width in [0, 1, 2, 3] {
        bell.device.write(0, &request[..width]);
    }
    bell.device.write(0, &REQUEST.to_le_bytes());
    assert_eq!(bell.counts.get(), [0, 1, 0]);
    let mut data = [0; 8];
    bell.device.read(3, &mut data);
    assert_eq!(data, [0xff; 8]);
}

/// Words at random, mostly small or near an edge: whatever they say, an answer or silence.
#[test]
fn random_requests_never_panic() {
    let mut bell = bell();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let edges =
        [0, REQUEST, BUFFER, RAM, HIGH_RAM_GPA, ROOT_GPA, ROOT_GPA + 2 * PAGE_SIZE, u64::MAX];
    for _ in 0..20_000 {
        let mut near =
            || edges[random() as usize % edges.len()].wrapping_add(random() % 16).wrapping_sub(8);
        let address = near();
        let gpa = address.min(RAM - size_of::<StdioRequest>() as u64);
        let segments: Vec<_> = (0..4).map(|_| (near(), near() % (1 << 40))).collect();
        let (op, stream) = (random() as u32 % 4, random() as u32 % 4);
        // Output that nobody takes would wait for room; the counts say what would have come.
        if op == OP_WRITE {
            bell.device.outputs = [-1; 2];
        }
        bell.ring_at(gpa, op, stream, &segments[..random() as usize % 5]);
        bell.device.write(0, &(address as u32).to_le_bytes());
    }
}
