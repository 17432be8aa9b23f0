//! Finds instructions that the kernel must not contain.
//!
//! Some KVMs emulate ring 0, and their emulator knows only part of the instruction set: anything else
//! stops the virtual CPU, and `lzcnt` silently computes what `bsr` does. The kernel
//! is therefore built for plain x86-64 without floating point, and this scan holds it to that. What the
//! kernel only *tries*, prepared for an invalid-opcode exception, is allowed in functions whose name
//! begins with `try_` or `smap_`.

use std::path::Path;
use std::process::Command;

/// An instruction that must not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The symbol that it is in.
    pub symbol: String,
    /// Its address, as objdump prints it.
    pub address: String,
    /// The instruction, as objdump prints it.
    pub instruction: String,
}

/// What these names stand for is tried under a fix-up.
const TRIED: [&str; 3] = ["stac", "clac", "xgetbv"];

/// Not implemented by the emulators, or wrongly. Prefixes end in `*`.
const FORBIDDEN: &[&str] = &[
    // silently wrong
    "lzcnt",
    // newer integer instructions
    "popcnt* andn bextr blsi blsr blsmsk bzhi mulx pdep pext rorx sarx shlx shrx adcx adox \
     crc32* movbe cmpxchg16b movdir* clwb",
    // processor state
    "rdtscp rdpid xgetbv xsave* xrstor* stac clac verr verw lar lsl invpcid invvpid vmcall \
     vmmcall monitor* mwait* rdpkru wrpkru sysenter xbegin xend xtest xabort",
    // software interrupts
    "int int1 int3 icebp into",
    // x87 and MMX
    "fld* fst* fi* fadd* fmul* fdiv* fsub* fxch fwait fnstsw fnclex fnsave frstor fcom* \
     fucom* fabs fchs fsqrt emms",
    // SSE and later
    "ldmxcsr stmxcsr cvt* ucomis* comis* shuf* unpck* lddqu sha1* sha256* aes* movlps movhps \
     movlpd movhpd movlhps movhlps movmsk* movntdqa movdq2q movq2dq movddup movshdup movsldup \
     movss haddp* hsubp* addsub* round* blend* dpp* extractps insertps mpsadbw rcp* rsqrt*",
];

/// Arithmetic on packed and scalar floating point: one of these and `ps`, `pd`, `ss` or `sd`.
const FLOAT_VERBS: [&str; 11] =
    ["add", "sub", "mul", "div", "min", "max", "sqrt", "and", "andn", "or", "xor"];

/// Instructions with a `p` or `v` in front that are not vector instructions.
const SCALAR_P: [&str; 5] = ["pause", "push*", "pop", "popf*", "prefetch*"];

const PREFIXES: &str = "lock rep repz repnz data16 notrack cs ds es ss fs gs bnd addr32 rex.W rex \
     xacquire xrelease";

/// After one of these an `int3` is padding that is never reached.
const NO_RETURN: &str = "ret retq jmp jmpq call callq ud2 hlt iretq sysretq int3";

/// Disassembles `elf` with objdump and scans it.
pub fn scan_file(elf: &Path) -> Vec<Finding> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "--demangle"])
        .arg(elf)
        .output()
        .expect("objdump runs (scripts/test installs binutils)");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "objdump {}: {messages}", elf.display());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("sysret") || text.contains("iret"), "{}: no kernel", elf.display());
    scan(&text)
}

/// Scans a disassembly as objdump prints it.
pub fn scan(disassembly: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut symbol = "";
    let mut before = Vec::new();
    for line in disassembly.lines() {
        if let Some(name) = symbol_of(line) {
            symbol = name;
            before.clear();
            continue;
        }
        let Some((address, instruction)) = line.trim_start().split_once(":\t") else {
            continue;
        };
        let instruction = instruction.trim();
        if is_forbidden(instruction, &before) && !is_tried(instruction, symbol) {
            findings.push(Finding {
                symbol: symbol.into(),
                address: address.into(),
                instruction: instruction.into(),
            });
        }
        before.push(instruction);
    }
    findings
}

/// `ffffffff80100000 <name>:` gives `name`.
fn symbol_of(line: &str) -> Option<&str> {
    let (address, rest) = line.split_once(" <")?;
    let is_address = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit());
    rest.strip_suffix(">:").filter(|_| is_address)
}

fn is_tried(instruction: &str, symbol: &str) -> bool {
    let name = symbol.rsplit("::").next().unwrap_or(symbol);
    TRIED.contains(&mnemonic(instruction).0)
        && (name.starts_with("try_") || name.starts_with("smap_"))
}

/// The mnemonic without prefixes, and the operands.
fn mnemonic(instruction: &str) -> (&str, &str) {
    let mut rest = instruction;
    loop {
        let (word, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if !PREFIXES.split(' ').any(|prefix| prefix == word) {
            return (word, operands.trim_start());
        }
        rest = operands.trim_start();
    }
}

fn is_forbidden(instruction: &str, before: &[&str]) -> bool {
    let (name, operands) = mnemonic(instruction);
    let vector = operands.contains("%xmm") || operands.contains("%mm");
    match name {
        "" => false,
        "int3" => !before
            .last()
            .is_some_and(|last| NO_RETURN.split(' ').any(|name| name == mnemonic(last).0)),
        // The encoding of `rep bsf`. For processors without tzcnt, and the rest of the list shows that
        // the kernel is built for them, LLVM emits it where both compute the same: the source is not
        // zero, or the width is in the destination already.
        "tzcnt" => false,
        // On vector registers these are not the string and general moves of the same name.
        "movd" | "movq" | "movsd" | "cmpsd" => vector,
        _ if ["%ymm", "%zmm", "%k0", "%k1"].iter().any(|r| operands.contains(r)) => true,
        _ if SCALAR_P.iter().any(|pattern| matches(name, pattern)) => false,
        _ if name.starts_with('p') => true,
        _ if name.starts_with('v') => true,
        _ => {
            let mut groups = FORBIDDEN.iter().map(|group| group.split_whitespace());
            groups.any(|mut group| group.any(|pattern| matches(name, pattern)))
                || is_float_arithmetic(name)
        }
    }
}

fn is_float_arithmetic(name: &str) -> bool {
    let kind = |suffix| matches!(suffix, "ps" | "pd" | "ss" | "sd");
    let compare = name.starts_with("cmp") && kind(&name[name.len() - 2..]) && name.len() > 5;
    compare || FLOAT_VERBS.iter().any(|verb| name.strip_prefix(verb).is_some_and(kind))
}

fn matches(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::scan;

    fn found(body: &str) -> Vec<String> {
        let lines: String = body.lines().map(|l| format!("ffffffff80100010:\t{l}\n")).collect();
        let text = format!("ffffffff80100000 <kernel::work>:\n{lines}");
        scan(&text).into_iter().map(|finding| finding.instruction).collect()
    }

    #[test]
    fn code_of_plain_x86_64_is_fine() {
        let body = "push   %rbp\npopf\npause\nrep movsq %ds:(%rsi),%es:(%rdi)\nmovq   $0x0,(%rax)\n\
                    lock cmpxchg %rcx,(%rdi)\nfxsave64 (%rdi)\nfninit\nswapgs\n\
                    cmpsq  %es:(%rdi),%ds:(%rsi)\nprefetcht0 (%rax)\nandq   $0x1,(%rax)\nsubl $1,%eax\n\
                    movups %xmm0,(%rdi)\nsysretq\nint3\nint3";
        let findings = found(body);
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn each_bad_instruction_is_found() {
        let body = "popcnt %rax,%rcx\nlzcnt  %rax,%rcx\nmovq   %xmm0,%rax\npxor   %xmm0,%xmm0\n\
                    addsd  %xmm1,%xmm0\nvmovdqu (%rdi),%ymm0\nshlx   %rax,%rcx,%rdx\nint    $0x80\n\
                    vmmcall\nstac\nlock cmpxchg16b (%rdi)\ncvtsi2sd %rax,%xmm0\nfldt   (%rax)\n\
                    mulx   %rax,%rcx,%rdx\ncmpltsd %xmm0,%xmm1\nxsave64 (%rdi)\nmov    %rax,%rcx\n";
        let bad: Vec<String> = body.lines().map(String::from).collect();
        assert_eq!(found(body), bad[..bad.len() - 1]);
    }

    #[test]
    fn int3_is_padding_only_after_what_does_not_go_on() {
        assert!(found("jmp    ffffffff80100000 <x>\nint3").is_empty());
        assert_eq!(found("nop\nint3"), ["int3"]);
    }

    #[test]
    fn rep_bsf_is_what_llvm_emits_without_tzcnt() {
        assert!(found("mov    $0x40,%ecx\ntzcnt  %rax,%rcx").is_empty());
        assert_eq!(found("lzcnt  %rax,%rcx").len(), 1);
    }

    #[test]
    fn what_is_tried_under_a_fix_up_is_allowed_in_functions_named_so() {
        let line =
            |symbol: &str| format!("ffffffff80100000 <{symbol}>:\nffffffff80100000:\tstac\n");
        assert!(scan(&line("guest_kernel::arch::smap_open")).is_empty());
        assert!(scan(&line("try_xgetbv")).is_empty());
        assert_eq!(scan(&line("guest_kernel::mm::retry_it")).len(), 1);
    }
}
