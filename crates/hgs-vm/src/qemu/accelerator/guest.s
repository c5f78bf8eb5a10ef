# The guest that shows whether a virtual machine runs: it goes from real mode to long mode with pages, as every kernel
# does, counts, writes to the debug port, and has QEMU exit. A KVM that is there without the processor's support gets no
# further than real mode. `guest.bin` is this, assembled:
#   as --64 guest.s -o guest.o && objcopy -O binary -j .text guest.o guest.bin
    .code16
start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    # Tables of pages at 0x1000, 0x2000 and 0x3000: the first 2 MiB at their own addresses.
    movw $0x1000, %di
    movw $0x1800, %cx
    rep stosw
    movw $0x2003, 0x1000
    movw $0x3003, 0x2000
    movw $0x0083, 0x3000
    movl $0x1000, %eax
    movl %eax, %cr3
    # Wide page tables, then long mode, then protection and pages.
    movl %cr4, %eax
    orb $0x20, %al
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orb $1, %ah
    wrmsr
    lgdt table
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmp $8, $(long + 0x7c00 - start)
    .code64
long:
    movl $1000000, %ecx
1:  loop 1b
    leaq line(%rip), %rsi
2:  lodsb
    outb %al, $0xe9
    testb %al, %al
    jnz 2b
    movb $0x10, %al
    outb %al, $0xf4
3:  hlt
    jmp 3b
line:
    .asciz "long mode"
    .balign 8
descriptors:
    .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
    .set table, 0x7c00 + limit - start
limit:
    .word limit - descriptors - 1
    .long 0x7c00 + descriptors - start
    .org 510
    .word 0xaa55
