//! Makes observations durable and hands them to deliver, oldest first.
