"""The methods: one file per paper or stage of one."""
