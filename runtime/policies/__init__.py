"""Who runs next: one pure function per file, all of them in `fusec.runtime.policies.table`."""
