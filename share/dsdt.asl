/*
 * dsdt.asl - the machine `pc` as ACPI describes it (ACPI 6.5, chapters 5, 6, 9).
 * mem/acpi.c writes the other tables; the numbers here are those of dev/.
 *
 * What may be absent (serial ports, keyboard, HPET) is found by looking at its
 * registers: a port or address that nothing claims reads all ones.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "SLUICE", "SLUICEPC", 1)
{
	/* Soft off: SLP_TYP 0 of PM1 control */
	Name (\_S5, Package () { Zero, Zero, Zero, Zero })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed,
				    MaxFixed, PosDecode, 0, 0, 0, 0, 1)
				IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed,
				    PosDecode, EntireRange,
				    0, 0x0000, 0x0cf7, 0, 0x0cf8)
				WordIO (ResourceProducer, MinFixed, MaxFixed,
				    PosDecode, EntireRange,
				    0, 0x0d00, 0xffff, 0, 0xf300)
				DWordMemory (ResourceProducer, PosDecode,
				    MinFixed, MaxFixed, Cacheable, ReadWrite,
				    0, 0x000a0000, 0x000bffff, 0, 0x00020000)
				DWordMemory (ResourceProducer, PosDecode,
				    MinFixed, MaxFixed, NonCacheable, ReadWrite,
				    0, 0xc0000000, 0xdfffffff, 0, 0x20000000)
				DWordMemory (ResourceProducer, PosDecode,
				    MinFixed, MaxFixed, NonCacheable, ReadWrite,
				    0, 0xf0000000, 0xfebfffff, 0, 0x0ec00000)
			})

			/* Pin P (INTA is 0) of slot S is PIRQ (S + P) mod 4,
			 * with the 8259 and with the I/O APIC alike */
			Method (_PRT, 0, Serialized)
			{
				Local0 = Package (128) {}
				Local1 = Zero
				While (Local1 < 128)
				{
					Local2 = Local1 >> 2
					Local3 = (Local2 + Local1) & 3
					If (Local3 == 0)
					{
						Local4 = Package (4)
						    { 0, 0, LNKA, 0 }
					}
					ElseIf (Local3 == 1)
					{
						Local4 = Package (4)
						    { 0, 0, LNKB, 0 }
					}
					ElseIf (Local3 == 2)
					{
						Local4 = Package (4)
						    { 0, 0, LNKC, 0 }
					}
					Else
					{
						Local4 = Package (4)
						    { 0, 0, LNKD, 0 }
					}
					Local4[0] = (Local2 << 16) | 0xffff
					Local4[1] = Local1 & 3
					Local0[Local1] = Local4
					Local1++
				}
				Return (Local0)
			}

			/* PCI-ISA bridge */
			Device (ISA)
			{
				Name (_ADR, 0x00010000)
				OperationRegion (PIRQ, PCI_Config, 0x60, 4)
				Field (PIRQ, ByteAcc, NoLock, Preserve)
				{
					PRQ0, 8, PRQ1, 8, PRQ2, 8, PRQ3, 8
				}

				OperationRegion (KBCR, SystemIO, 0x64, 1)
				Field (KBCR, ByteAcc, NoLock, Preserve)
				{
					KBST, 8
				}
				Method (KBCS, 0, NotSerialized)
				{
					If (KBST == 0xff) { Return (0) }
					Return (0x0f)
				}
				Device (KBD)
				{
					Name (_HID, EisaId ("PNP0303"))
					Method (_STA) { Return (KBCS ()) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x60, 0x60, 1, 1)
						IO (Decode16, 0x64, 0x64, 1, 1)
						IRQNoFlags () { 1 }
					})
				}
				Device (MOU)
				{
					Name (_HID, EisaId ("PNP0F13"))
					Method (_STA) { Return (KBCS ()) }
					Name (_CRS, ResourceTemplate ()
					{
						IRQNoFlags () { 12 }
					})
				}

				/* pvpanic: the port reads 0xff where it is
				 * not there */
				OperationRegion (PVPR, SystemIO, 0x505, 1)
				Field (PVPR, ByteAcc, NoLock, Preserve)
				{
					PVPE, 8
				}
				Device (PVPN)
				{
					Name (_HID, "QEMU0001")
					Method (_STA)
					{
						If (PVPE == 0xff) { Return (0) }
						Return (0x0f)
					}
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x505, 0x505, 1, 1)
					})
				}

				Device (RTC)
				{
					Name (_HID, EisaId ("PNP0B00"))
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x70, 0x70, 1, 2)
						IRQNoFlags () { 8 }
					})
				}

				/* LSR of each port: never all ones at rest */
				OperationRegion (LSRA, SystemIO, 0x3fd, 1)
				OperationRegion (LSRB, SystemIO, 0x2fd, 1)
				OperationRegion (LSRC, SystemIO, 0x3ed, 1)
				OperationRegion (LSRD, SystemIO, 0x2ed, 1)
				Field (LSRA, ByteAcc, NoLock, Preserve) { LSR1, 8 }
				Field (LSRB, ByteAcc, NoLock, Preserve) { LSR2, 8 }
				Field (LSRC, ByteAcc, NoLock, Preserve) { LSR3, 8 }
				Field (LSRD, ByteAcc, NoLock, Preserve) { LSR4, 8 }
				Method (SERS, 1, NotSerialized)
				{
					If (Arg0 == 0xff) { Return (0) }
					Return (0x0f)
				}
				Device (COM1)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 1)
					Method (_STA) { Return (SERS (LSR1)) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x3f8, 0x3f8, 1, 8)
						IRQNoFlags () { 4 }
					})
				}
				Device (COM2)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 2)
					Method (_STA) { Return (SERS (LSR2)) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x2f8, 0x2f8, 1, 8)
						IRQNoFlags () { 3 }
					})
				}
				Device (COM3)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 3)
					Method (_STA) { Return (SERS (LSR3)) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x3e8, 0x3e8, 1, 8)
						IRQNoFlags () { 4 }
					})
				}
				Device (COM4)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 4)
					Method (_STA) { Return (SERS (LSR4)) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x2e8, 0x2e8, 1, 8)
						IRQNoFlags () { 3 }
					})
				}
			}
		}

		/* PIRQ A-D: route registers 60h-63h, bit 7 is "off" */
		Method (LSTA, 1, NotSerialized)
		{
			If (Arg0 & 0x80) { Return (0x09) }
			Return (0x0b)
		}
		Name (LBUF, ResourceTemplate ()
		{
			Interrupt (ResourceConsumer, Level, ActiveHigh,
			    Shared, , , LINT) { 0 }
		})
		CreateDWordField (LBUF, LINT._INT, LIRQ)
		Method (LCRS, 1, Serialized)
		{
			LIRQ = 0
			If (!(Arg0 & 0x80)) { LIRQ = Arg0 & 0x0f }
			Return (LBUF)
		}
		Name (LPRS, ResourceTemplate ()
		{
			Interrupt (ResourceConsumer, Level, ActiveHigh, Shared)
			    { 5, 10, 11 }
		})
		Device (LNKA)
		{
			Name (_HID, EisaId ("PNP0C0F"))
			Name (_UID, 0)
			Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQ0)) }
			Method (_PRS) { Return (LPRS) }
			Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQ0)) }
			Method (_DIS) { \_SB.PCI0.ISA.PRQ0 |= 0x80 }
			Method (_SRS, 1)
			{
				CreateDWordField (Arg0, 0x05, IRQN)
				\_SB.PCI0.ISA.PRQ0 = IRQN
			}
		}
		Device (LNKB)
		{
			Name (_HID, EisaId ("PNP0C0F"))
			Name (_UID, 1)
			Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQ1)) }
			Method (_PRS) { Return (LPRS) }
			Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQ1)) }
			Method (_DIS) { \_SB.PCI0.ISA.PRQ1 |= 0x80 }
			Method (_SRS, 1)
			{
				CreateDWordField (Arg0, 0x05, IRQN)
				\_SB.PCI0.ISA.PRQ1 = IRQN
			}
		}
		Device (LNKC)
		{
			Name (_HID, EisaId ("PNP0C0F"))
			Name (_UID, 2)
			Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQ2)) }
			Method (_PRS) { Return (LPRS) }
			Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQ2)) }
			Method (_DIS) { \_SB.PCI0.ISA.PRQ2 |= 0x80 }
			Method (_SRS, 1)
			{
				CreateDWordField (Arg0, 0x05, IRQN)
				\_SB.PCI0.ISA.PRQ2 = IRQN
			}
		}
		Device (LNKD)
		{
			Name (_HID, EisaId ("PNP0C0F"))
			Name (_UID, 3)
			Method (_STA) { Return (LSTA (\_SB.PCI0.ISA.PRQ3)) }
			Method (_PRS) { Return (LPRS) }
			Method (_CRS) { Return (LCRS (\_SB.PCI0.ISA.PRQ3)) }
			Method (_DIS) { \_SB.PCI0.ISA.PRQ3 |= 0x80 }
			Method (_SRS, 1)
			{
				CreateDWordField (Arg0, 0x05, IRQN)
				\_SB.PCI0.ISA.PRQ3 = IRQN
			}
		}

		/* What PCI must not give away: the configuration window, the
		 * general purpose event block */
		Device (MRES)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, 0xe0000000, 0x00100000)
				IO (Decode16, 0xafe0, 0xafe0, 1, 4)
			})
		}

		Device (HPET)
		{
			Name (_HID, EisaId ("PNP0103"))
			Name (_UID, 0)
			OperationRegion (HPTM, SystemMemory, 0xfed00000, 8)
			Field (HPTM, DWordAcc, NoLock, Preserve)
			{
				VEND, 32, PRD, 32
			}
			Method (_STA)
			{
				If (VEND == 0xffffffff) { Return (0) }
				If ((PRD == 0) || (PRD > 100000000)) { Return (0) }
				Return (0x0f)
			}
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadOnly, 0xfed00000, 0x00000400)
			})
		}
	}
}
