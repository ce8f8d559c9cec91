# Interrupt controllers and timer placed in the vcpu: dev/{lapic,ioapic,i8259,
# i8254}.c by themselves, and cpu/{irq,io,placed}.c between them and the bus's
# shared pages (PROTOCOL.md "Interrupts", "Ranges").

@test "local APIC, I/O APIC, 8259 pair and 8254 follow their data sheets" {
	make -s build/t/intc
	run build/t/intc
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "lines, messages, accesses and timers reach the vcpu" {
	make -s build/t/irq
	run build/t/irq
	echo "$output"
	[ "$status" -eq 0 ]
}
