# What breaks translators, each a small guest program in a vcpu without a
# machine: t/unit/codetest.c.

@test "self-modifying code, changing mappings, page crossings, odd segments, debugging, flags" {
	make -s build/t/codetest
	run build/t/codetest
	echo "$output"
	[ "$status" -eq 0 ]
}
