# What the translator makes of each kind of guest instruction, in host
# instructions and bytes: t/emitted.txt.  A change of it is meant, or a mistake.
# When it is meant: build/t/emitted >t/emitted.txt

@test "emitted code: as many host instructions as the last time" {
	make -s build/t/emitted
	run diff -u t/emitted.txt <(build/t/emitted)
	echo "$output"
	[ "$status" -eq 0 ]
}
